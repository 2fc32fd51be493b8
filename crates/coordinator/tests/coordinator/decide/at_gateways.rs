//! What no gateway could run: refused, but for what is so already, and for reverts.

use weir_model::Severity;

use super::*;

/// A split with a door for `shop.example.com` at a gateway whose base has these paths of the same host.
fn at_edge(commit: u8, vm: u32, base_paths: &str) -> (SourceName, Arc<Head>) {
    let base = format!(
        "_format_version: \"3.0\"\nservices:\n  - name: old\n    host: old.internal\n    routes: [{{name: old, hosts: \
         [shop.example.com], paths: [{base_paths}]}}]\n"
    );
    of_base(commit, vm, "hosts: [shop.example.com], paths: [/]", &base)
}

/// A split that takes over a service of a base; the service's upstream, and one beside it, hash by these headers.
fn over_hashes(commit: u8, vm: u32, [its, beside]: [&str; 2]) -> (SourceName, Arc<Head>) {
    let upstream = |name: &str, header: &str| {
        format!(
            "  - {{name: {name}, hash_on: header, hash_on_header: {header}, targets: [{{target: \"10.0.0.9:80\"}}]}}\n"
        )
    };
    let base = format!(
        "_format_version: \"3.0\"\nupstreams:\n{}{}services:\n  - {{name: shop, host: shop.up, port: 80, routes: [{{name: \
         shop, paths: [/shop]}}]}}\n",
        upstream("shop.up", its),
        upstream("other.up", beside)
    );
    of_base(commit, vm, "service: shop", &base)
}

/// A split with a door that takes this at a gateway with this base.
fn of_base(commit: u8, vm: u32, takes: &str, base: &str) -> (SourceName, Arc<Head>) {
    let (source, mut head) = head("main", commit, "");
    let text = declaration("shop", &vm.to_string(), &(100 - vm).to_string());
    let fra = "metadata: {name: fra}\nspec: {platform: vm";
    let text = text.replacen(
        fra,
        &format!("{fra}, gateways: [{{name: edge, channel: admin-dbless, base: edge.yaml}}]"),
        1,
    );
    let text = format!(
        "{}\n  gateways: [{{gateway: edge, {takes}, backends: {{vm: \"10.0.0.1:80\", cloud: \
         \"10.0.0.2:80\"}}}}]\n",
        text.trim_end()
    );
    let file = |path: &str, text: &str| SourceFile {
        source: source.clone(),
        path: path.to_owned(),
        bytes: Arc::from(text.as_bytes()),
    };
    let files = [file("main.yaml", &text), file("edge.yaml", base)];
    Arc::make_mut(&mut head).content = Content::Files(Arc::from(files.to_vec()));
    (source, head)
}

#[test]
fn a_route_of_the_base_in_the_way_is_refused_before_it_is_in_force() {
    let mut story = Story::default();
    let first = story.tell([at_edge(1, 100, "/old")]);
    assert_eq!((taken(&first), refused(&first)), (vec!["main"], BTreeMap::new()));
    let second = story.tell([at_edge(2, 90, "/")]);
    let why = &refused(&second)["main"];
    assert!(
        why.len() == 1
            && why[0].starts_with("WEIR0713 gateway edge of zone fra could not run split checkout: "),
        "{why:?}"
    );
    let label = &second.refused[&name("main")][0].labels[0];
    assert_eq!(
        (label.file.as_str(), label.text.as_str()),
        ("main.yaml", "this door")
    );
    assert_eq!(story.generation(), 1);
    let third = story.tell([at_edge(3, 90, "/old")]);
    assert_eq!((taken(&third), story.generation()), (vec!["main"], 2));
}

#[test]
fn what_is_so_already_is_in_nobodys_way_and_no_revert_waits() {
    let mut story = Story::default();
    // As a version took it that did not look.
    let (source, before) = at_edge(1, 100, "/");
    let Content::Files(files) = &before.content else {
        panic!("files");
    };
    let parsed = weir_model::parse(files);
    assert_eq!(parsed.diagnostics, []);
    story.in_force = [(source.clone(), before)].into();
    let warned = |decision: &Decision| {
        let mut said = decision.taken[&source].iter();
        said.any(|one| one.code == codes::AT_ODDS && one.severity == Severity::Warning)
    };
    let shifted = story.tell([at_edge(2, 90, "/")]);
    assert!(warned(&shifted), "{shifted:?}");
    let mended = story.tell([at_edge(3, 90, "/old")]);
    assert_eq!(taken(&mended), ["main"]);
    assert!(!warned(&mended), "{mended:?}");
    // The mend is taken back at 3 a.m.
    story.reverts.insert(source.clone());
    let reverted = story.tell([at_edge(4, 90, "/")]);
    assert!(warned(&reverted), "{reverted:?}");
}

/// Whether it is told of a header that Kong does not find, as a warning of what is taken.
fn warned_of_a_dash(decision: &Decision) -> bool {
    let mut said = decision.taken.values().flat_map(|said| said.iter());
    said.any(|one| one.code == codes::DASHED_HEADER && one.severity == Severity::Warning)
}

#[test]
fn a_hyphen_in_a_hash_header_of_what_a_split_takes_over_changes_nothing() {
    let mut story = Story::default();
    let first = story.tell([over_hashes(1, 100, ["X_User", "x_other"])]);
    assert_eq!((taken(&first), refused(&first)), (vec!["main"], BTreeMap::new()));
    assert!(!warned_of_a_dash(&first), "{first:?}");
    let second = story.tell([over_hashes(2, 90, ["X-User", "x_other"])]);
    let why = &refused(&second)["main"];
    assert!(
        why.len() == 1
            && why[0].starts_with(
                "WEIR0716 gateway edge of zone fra: split checkout takes over service `shop` of the base"
            ),
        "{why:?}"
    );
    assert_eq!(second.refused[&name("main")][0].labels[0].text, "this door");
    assert_eq!(story.generation(), 1);
    // In what is the site's alone it is theirs to know.
    let third = story.tell([over_hashes(3, 90, ["X_User", "x-other"])]);
    assert_eq!((taken(&third), story.generation()), (vec!["main"], 2));
    assert!(warned_of_a_dash(&third), "{third:?}");
    // As a version took it that did not look: it is in nobody's way, and no revert waits for it.
    let mut story = Story::default();
    let (source, before) = over_hashes(1, 100, ["X-User", "x_other"]);
    story.in_force = [(source.clone(), before)].into();
    let shifted = story.tell([over_hashes(2, 90, ["X-User", "x_other"])]);
    assert!(
        taken(&shifted) == ["main"] && warned_of_a_dash(&shifted),
        "{shifted:?}"
    );
    let mended = story.tell([over_hashes(3, 90, ["X_User", "x_other"])]);
    assert_eq!(taken(&mended), ["main"]);
    story.reverts.insert(source);
    let reverted = story.tell([over_hashes(4, 90, ["X-User", "x_other"])]);
    assert!(
        taken(&reverted) == ["main"] && warned_of_a_dash(&reverted),
        "{reverted:?}"
    );
}
