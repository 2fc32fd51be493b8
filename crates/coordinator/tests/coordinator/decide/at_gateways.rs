//! What no gateway could run: refused, but for what is so already, and for reverts.

use weir_model::Severity;

use super::*;

/// A split with a door for `shop.example.com` at a gateway whose base has these paths of the same host.
fn at_edge(commit: u8, vm: u32, base_paths: &str) -> (SourceName, Arc<Head>) {
    let (source, mut head) = head("main", commit, "");
    let text = declaration("shop", &vm.to_string(), &(100 - vm).to_string());
    let fra = "metadata: {name: fra}\nspec: {platform: vm";
    let text = text.replacen(
        fra,
        &format!("{fra}, gateways: [{{name: edge, channel: admin-dbless, base: edge.yaml}}]"),
        1,
    );
    let text = format!(
        "{}\n  gateways: [{{gateway: edge, hosts: [shop.example.com], paths: [/], backends: {{vm: \"10.0.0.1:80\", cloud: \
         \"10.0.0.2:80\"}}}}]\n",
        text.trim_end()
    );
    let base = format!(
        "_format_version: \"3.0\"\nservices:\n  - name: old\n    host: old.internal\n    routes: [{{name: old, hosts: \
         [shop.example.com], paths: [{base_paths}]}}]\n"
    );
    let file = |path: &str, text: &str| SourceFile {
        source: source.clone(),
        path: path.to_owned(),
        bytes: Arc::from(text.as_bytes()),
    };
    let files = [file("main.yaml", &text), file("edge.yaml", &base)];
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
