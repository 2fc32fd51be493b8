//! How a route stands in its cluster: whether it is there as it is wanted, what the controller says of it, who is behind it.

use std::borrow::Cow;

use serde_json::Value;
use weir_planner::Verdict;
use weir_render::kic::{
    HttpRoute, Over, Routes, Said, attached_elsewhere, backends, expected, over, parents, said,
};
use weir_render::kong::Expected;

use super::compare::{difference, foreign_annotation};
use super::looked::{Found, Looked, Owned, owned};
use super::taken::absent;
use super::{KongKic, told};

impl KongKic {
    /// What Kong must run for a route, if all that the cluster says of it is as it should be.
    pub(super) fn standing(
        &self,
        wanted: &Routes,
        route: &HttpRoute,
        looked: &Looked,
    ) -> Result<Expected, Verdict> {
        let different = |why: String| Err(Verdict::Different(why));
        let known = looked.live(route);
        if let Some(taker) = &route.taken_by {
            let Some(Found(live)) = known else {
                return different(absent(route));
            };
            match over(route, taker, live) {
                Ok(Over::There) => {}
                Ok(_) => {
                    return different(format!(
                        "the HTTPRoute {}/{} does not have the backendRefs of this split, or not its mark",
                        route.namespace, route.name
                    ));
                }
                Err(why) => return different(why),
            }
            return self.resolved(wanted, &route.beside(live), live, looked);
        }
        let Some(Found(live)) = known else {
            return different(format!(
                "there is no HTTPRoute {}/{}",
                route.namespace, route.name
            ));
        };
        if let Owned::Foreign(why) = owned(live, &self.federation, wanted) {
            return different(format!(
                "the HTTPRoute {}/{} is not Weir's: {why}",
                route.namespace, route.name
            ));
        }
        if let Some(at) = difference(route, live) {
            return different(format!(
                "the HTTPRoute {}/{} says something else, at {at}",
                route.namespace, route.name
            ));
        }
        if let Some(key) = foreign_annotation(route, live) {
            return different(format!(
                "somebody annotated the HTTPRoute {}/{} with {key}, which may change what becomes of its requests: take it off",
                route.namespace, route.name
            ));
        }
        self.resolved(wanted, route, live, looked)
    }

    /// The same of a route that is there as it should be.
    fn resolved(
        &self,
        wanted: &Routes,
        route: &HttpRoute,
        live: &Value,
        looked: &Looked,
    ) -> Result<Expected, Verdict> {
        let different = |why: String| Err(Verdict::Different(why));
        if let Some(error) = looked.unknown.get(&route.namespace) {
            return Err(Verdict::Unknown(error.to_string()));
        }
        let found = match backends(route, &looked.services) {
            Ok(found) => found,
            Err(unmet) => return different(told(&unmet)),
        };
        // One of theirs names listeners as it likes.
        let parents = match route.taken_by.is_some() {
            true => {
                if let Some(other) = attached_elsewhere(&route.parent, live) {
                    return different(format!(
                        "the HTTPRoute {}/{} is attached to {other} as well, where these weights are too: give that an HTTPRoute of its own",
                        route.namespace, route.name
                    ));
                }
                parents(&route.parent, live)
            }
            false => vec![route.parent.clone()],
        };
        for parent in &parents {
            match said(live, parent, found.absent) {
                Said::Programmed => {}
                Said::Nothing(why) => return Err(Verdict::Unknown(why)),
                Said::Not(why) => return different(why),
            }
        }
        if let Some(other) = looked.rival(&self.federation, wanted, route) {
            return different(format!("{other}: which of the two Kong takes is not known"));
        }
        match found.off.as_slice() {
            [] => Ok(expected(route, &found)),
            off => different(off.join("; ")),
        }
    }
}

impl Looked {
    /// These routes with all that is theirs where they are taken over.
    pub(super) fn beside<'r>(&self, wanted: &'r Routes) -> Cow<'r, Routes> {
        let mut whole = Cow::Borrowed(wanted);
        let taken = wanted.routes.iter().filter(|(_, route)| route.taken_by.is_some());
        for (split, route) in taken {
            if let Some(Found(live)) = self.live(route) {
                whole.to_mut().routes.insert(split.clone(), route.beside(live));
            }
        }
        whole
    }
}
