//! The kinds of object that the double knows, by Kuma's own names.

use serde::{Deserialize, Serialize};

/// The kinds that the double knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(missing_docs, reason = "Kuma's own names")]
pub enum Kind {
    Mesh,
    Zone,
    ZoneIngress,
    Dataplane,
    MeshService,
    MeshMultiZoneService,
    MeshHTTPRoute,
    MeshTCPRoute,
    MeshTrafficPermission,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Mesh,
        Self::Zone,
        Self::ZoneIngress,
        Self::Dataplane,
        Self::MeshService,
        Self::MeshMultiZoneService,
        Self::MeshHTTPRoute,
        Self::MeshTCPRoute,
        Self::MeshTrafficPermission,
    ];

    /// Name, plural in paths, short name in KRIs.
    pub(super) fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Mesh => ("Mesh", "meshes", "m"),
            Self::Zone => ("Zone", "zones", "z"),
            Self::ZoneIngress => ("ZoneIngress", "zoneingresses", "zi"),
            Self::Dataplane => ("Dataplane", "dataplanes", "dp"),
            Self::MeshService => ("MeshService", "meshservices", "msvc"),
            Self::MeshMultiZoneService => ("MeshMultiZoneService", "meshmultizoneservices", "mzsvc"),
            Self::MeshHTTPRoute => ("MeshHTTPRoute", "meshhttproutes", "mhttpr"),
            Self::MeshTCPRoute => ("MeshTCPRoute", "meshtcproutes", "mtcpr"),
            Self::MeshTrafficPermission => ("MeshTrafficPermission", "meshtrafficpermissions", "mtp"),
        }
    }

    /// `MeshHTTPRoute`.
    pub fn name(self) -> &'static str {
        self.words().0
    }

    /// `meshhttproutes`.
    pub fn plural(self) -> &'static str {
        self.words().1
    }

    /// The kind with this plural.
    pub fn by_plural(plural: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.plural() == plural)
    }

    /// Whether its objects belong to a mesh.
    pub fn in_mesh(self) -> bool {
        !matches!(self, Self::Mesh | Self::Zone | Self::ZoneIngress)
    }

    /// Whether it is a policy, which a zone may write with origin `zone`.
    pub fn is_policy(self) -> bool {
        matches!(
            self,
            Self::MeshHTTPRoute | Self::MeshTCPRoute | Self::MeshTrafficPermission
        )
    }
}
