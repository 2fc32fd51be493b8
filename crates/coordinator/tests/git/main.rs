//! Looking at real repositories: local, over http and https from git's own server side, over a stand-in for ssh.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod repository;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use repository::Repository;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use weir_coordinator::ca::Authority;
use weir_coordinator::config::{Auth, Source};
use weir_coordinator::git::{Content, GitError, Head, Look, Mirror, Remote, Unusable};
use weir_model::{CommitId, FederationName, SourceName};

fn source(remote: Remote, auth: Auth) -> Source {
    Source {
        name: SourceName("main".to_owned()),
        remote,
        branch: "main".to_owned(),
        path: String::new(),
        poll: Duration::from_secs(60),
        webhook: None,
        auth,
    }
}

fn local(dir: &Path) -> Source {
    source(Remote::Local(dir.to_owned()), Auth::default())
}

fn texts(head: &Head) -> Vec<(String, String)> {
    match &head.content {
        Content::Files(files) => files
            .iter()
            .map(|f| (f.path.clone(), String::from_utf8_lossy(&f.bytes).into_owned()))
            .collect(),
        Content::Unusable(why) => panic!("{why:?}"),
    }
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter()
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
        .collect()
}

#[test]
fn a_local_repository_is_followed_through_all_that_may_befall_it() {
    let dir = TempDir::new().unwrap();
    let mirror = Mirror::new(&dir.path().join("git"), local(&dir.path().join("repo")));
    assert!(matches!(mirror.look(), Err(GitError::Unreachable(_))));
    assert_eq!(mirror.glance(), None);

    fs::create_dir(dir.path().join("repo")).unwrap();
    assert!(matches!(mirror.look(), Err(GitError::NotARepository(_))));

    let repo = Repository::empty(&dir.path().join("repo"));
    assert_eq!(mirror.look(), Err(GitError::Empty));

    let first = repo.commit(
        "The first\n\nand more",
        &[("b.yml", "b"), ("a.yaml", "a"), ("README.md", "no")],
    );
    let head = mirror.look().unwrap().head;
    assert_eq!(mirror.glance(), Some(head.commit.clone()));
    assert_eq!(
        (
            head.commit.0.as_str(),
            head.author.as_str(),
            head.subject.as_str()
        ),
        (first.to_string().as_str(), "Ada <ada@example.com>", "The first")
    );
    assert_eq!(head.authored_at.to_string(), "2023-11-14T22:13:20Z");
    assert_eq!(texts(&head), pairs(&[("a.yaml", "a"), ("b.yml", "b")]));

    // A force-push: history that has nothing to do with what was there.
    repo.replace("anew", &[("c.yaml", "c")]);
    assert_eq!(texts(&mirror.look().unwrap().head), pairs(&[("c.yaml", "c")]));
    // And back.
    repo.move_to(first);
    assert_eq!(mirror.look().unwrap().head, head);

    repo.delete_branch();
    repo.git.reference("refs/heads/other", first, true, "").unwrap();
    assert_eq!(mirror.look(), Err(GitError::NoBranch("main".to_owned())));
    // What was fetched before is still there.
    assert_eq!(mirror.remembered(&head.commit), Some(head));
    assert_eq!(mirror.remembered(&CommitId("12".repeat(20))), None);
}

#[test]
fn links_submodules_and_hidden_files_are_not_read() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("secret.yaml"), "secret").unwrap();
    let repo = Repository::with(
        &dir.path().join("repo"),
        &[
            ("traffic/a.yaml", "a"),
            ("traffic/deep/er/b.yaml", "b"),
            ("traffic/link.yaml@", "../../secret.yaml"),
            ("traffic/linked@", "/etc"),
            ("traffic/module.yaml#", ""),
            (".github/workflows/ci.yml", "ci"),
            ("traffic/.hidden.yaml", "hidden"),
            ("other/c.yaml", "c"),
        ],
    );
    let look = |path: &str| {
        let mut source = local(&repo.dir);
        path.clone_into(&mut source.path);
        Mirror::new(&dir.path().join("git"), source).look().unwrap().head
    };
    assert_eq!(
        texts(&look("traffic")),
        pairs(&[("traffic/a.yaml", "a"), ("traffic/deep/er/b.yaml", "b")])
    );
    assert_eq!(texts(&look("")).len(), 3);
    for path in [
        "traffic/linked",
        "traffic/module.yaml",
        "traffic/a.yaml",
        "nowhere",
    ] {
        assert_eq!(
            look(path).content,
            Content::Unusable(Unusable::NoSuchPath(path.to_owned())),
            "{path}"
        );
    }
}

#[test]
fn what_is_too_large_is_named_and_not_read() {
    let dir = TempDir::new().unwrap();
    let large = "#".repeat((4 << 20) + 1);
    let repo = Repository::with(
        &dir.path().join("repo"),
        &[("a.yaml", "a"), ("large.yaml", &large)],
    );
    let mirror = Mirror::new(&dir.path().join("git"), local(&repo.dir));
    assert_eq!(
        mirror.look().unwrap().head.content,
        Content::Unusable(Unusable::FileTooLarge("large.yaml".to_owned(), large.len()))
    );
    // A large file that is no declaration is nobody's concern.
    repo.commit("moved", &[("a.yaml", "a"), ("large.bin", &large)]);
    assert_eq!(texts(&mirror.look().unwrap().head), pairs(&[("a.yaml", "a")]));
}

/// As after `kill -9` in the middle of a look.
#[test]
fn the_locks_of_a_look_that_was_killed_are_in_nobodys_way() {
    let dir = TempDir::new().unwrap();
    let repo = Repository::with(&dir.path().join("repo"), &[("a.yaml", "a")]);
    let mirror = Mirror::new(&dir.path().join("git"), local(&repo.dir));
    let first = mirror.look().unwrap();
    let inside = dir.path().join("git/main");
    for lock in [
        "refs/heads/main.lock",
        "HEAD.lock",
        "config.lock",
        "packed-refs.lock",
    ] {
        fs::write(inside.join(lock), "").unwrap();
    }
    repo.commit("b", &[("a.yaml", "b")]);
    let second = mirror.look().unwrap();
    assert_ne!(second.head.commit, first.head.commit);
    assert_eq!(second.recloned, None);
    assert!(!inside.join("refs/heads/main.lock").exists());
}

#[test]
fn a_damaged_mirror_is_made_anew_and_that_is_said() {
    let dir = TempDir::new().unwrap();
    let repo = Repository::with(&dir.path().join("repo"), &[("a.yaml", "a")]);
    let mirror = Mirror::new(&dir.path().join("git"), local(&repo.dir));
    let good = mirror.look().unwrap();
    assert_eq!(good.recloned, None);
    let inside = dir.path().join("git/main");
    let damages: [(&str, &dyn Fn()); 4] = [
        ("objects gone", &|| {
            fs::remove_dir_all(inside.join("objects")).unwrap();
        }),
        ("objects emptied", &|| {
            for file in files_below(&inside.join("objects")) {
                fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
                fs::write(file, "").unwrap();
            }
        }),
        ("head gone", &|| fs::remove_file(inside.join("HEAD")).unwrap()),
        ("config broken", &|| {
            fs::write(inside.join("config"), "[core\n").unwrap();
        }),
    ];
    for (what, damage) in damages {
        damage();
        let look = mirror.look().unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(look.recloned.is_some(), "{what}");
        assert_eq!(look.head, good.head, "{what}");
        assert_eq!(mirror.look().unwrap(), good, "{what}");
    }
}

/// The damaged mirror may hold the commit in force, and the remote may be in no better state.
#[test]
fn a_damaged_mirror_is_kept_until_there_is_another() {
    let dir = TempDir::new().unwrap();
    let repo = Repository::with(&dir.path().join("repo"), &[("a.yaml", "a")]);
    let mirror = Mirror::new(&dir.path().join("git"), local(&repo.dir));
    let first = mirror.look().unwrap().head;
    let objects = dir.path().join("git/main/objects");
    let before = files_below(&objects);
    let files: Vec<(&str, &str)> = vec![("a.yaml", "another")];
    repo.commit("second", &files);
    mirror.look().unwrap();
    for file in files_below(&objects)
        .into_iter()
        .filter(|file| !before.contains(file))
    {
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(file, "").unwrap();
    }
    for file in files_below(&repo.dir.join("objects")) {
        fs::remove_file(file).unwrap();
    }
    mirror.look().unwrap_err();
    assert_eq!(mirror.remembered(&first.commit), Some(first));
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}

/// Git's own server side, or none: then the test says that it is skipped.
fn git_program() -> bool {
    let there = Command::new("git")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let required = std::env::var("WEIR_REQUIRE").unwrap_or_default();
    assert!(
        there || !required.split(',').any(|part| part == "git"),
        "git is required and not there"
    );
    if !there {
        #[expect(clippy::print_stderr, reason = "who reads the test's output must know")]
        {
            eprintln!("skipped: there is no `git` program");
        }
    }
    there
}

#[derive(Clone)]
struct Hosting {
    repo: PathBuf,
    /// What `Authorization` must be.
    login: Arc<Mutex<Option<String>>>,
}

#[derive(serde::Deserialize)]
struct Asked {
    service: String,
}

fn denied(hosting: &Hosting, headers: &HeaderMap) -> bool {
    let wanted = hosting.login.lock().unwrap().clone();
    let got = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    wanted.is_some() && wanted.as_deref() != got
}

fn upload_pack(repo: &Path, advertise: bool, body: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut command = Command::new("git");
    command.args(["-c", "safe.directory=*", "upload-pack", "--stateless-rpc"]);
    if advertise {
        command.arg("--advertise-refs");
    }
    let mut child = command
        .arg(repo)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(body).unwrap();
    child.wait_with_output().unwrap().stdout
}

async fn info_refs(
    State(hosting): State<Hosting>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Response {
    assert_eq!(asked.service, "git-upload-pack");
    if denied(&hosting, &headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let mut body = b"001e# service=git-upload-pack\n0000".to_vec();
    body.extend(upload_pack(&hosting.repo, true, b""));
    (
        [(
            header::CONTENT_TYPE,
            "application/x-git-upload-pack-advertisement",
        )],
        body,
    )
        .into_response()
}

async fn pack(State(hosting): State<Hosting>, headers: HeaderMap, body: Bytes) -> Response {
    if denied(&hosting, &headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let answer = upload_pack(&hosting.repo, false, &body);
    (
        [(header::CONTENT_TYPE, "application/x-git-upload-pack-result")],
        answer,
    )
        .into_response()
}

fn hosting(repo: &Path) -> (Router, Arc<Mutex<Option<String>>>) {
    let login = Arc::new(Mutex::new(None));
    let state = Hosting {
        repo: repo.to_owned(),
        login: Arc::clone(&login),
    };
    let router = Router::new()
        .route("/team/traffic.git/info/refs", get(info_refs))
        .route("/team/traffic.git/git-upload-pack", post(pack))
        .route(
            "/moved.git/info/refs",
            get(|| async { Redirect::permanent("/team/traffic.git/info/refs?service=git-upload-pack") }),
        )
        .route("/login.git/info/refs", get(|| async { "<html>please log in" }))
        .with_state(state);
    (router, login)
}

fn remote(url: &str) -> Remote {
    Remote::parse(url, Path::new("/")).unwrap()
}

async fn look(mirror: &Mirror) -> Result<Look, GitError> {
    let mirror = mirror.clone();
    tokio::task::spawn_blocking(move || mirror.look()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn http_brings_what_git_serves() {
    if !git_program() {
        return;
    }
    weir_link::tls::install_provider();
    let dir = TempDir::new().unwrap();
    let repo = Repository::with(&dir.path().join("repo"), &[("a.yaml", "1")]);
    let (router, login) = hosting(&repo.dir);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let at = |path: &str, auth: Auth| {
        let source = source(remote(&format!("http://{address}/{path}")), auth);
        Mirror::new(&dir.path().join(path), source)
    };
    let mirror = at("team/traffic.git", Auth::default());
    assert_eq!(
        texts(&look(&mirror).await.unwrap().head),
        pairs(&[("a.yaml", "1")])
    );
    for n in 2..5 {
        repo.commit("next", &[("a.yaml", &n.to_string())]);
        repo.commit("and one more", &[("a.yaml", &format!("{n}.1"))]);
        assert_eq!(
            texts(&look(&mirror).await.unwrap().head),
            pairs(&[("a.yaml", &format!("{n}.1"))])
        );
    }
    repo.replace("force-pushed", &[("b.yaml", "b")]);
    assert_eq!(
        texts(&look(&mirror).await.unwrap().head),
        pairs(&[("b.yaml", "b")])
    );
    assert_eq!(look(&mirror).await.unwrap().recloned, None);
    // A renamed repository is followed, as git does.
    let moved = at("moved.git", Auth::default());
    assert_eq!(
        texts(&look(&moved).await.unwrap().head),
        pairs(&[("b.yaml", "b")])
    );

    let password_file = dir.path().join("password");
    fs::write(&password_file, "s3cret\n").unwrap();
    let auth = Auth {
        username: Some("robot".to_owned()),
        password_file: Some(password_file.clone()),
        ..Auth::default()
    };
    *login.lock().unwrap() = Some("Basic cm9ib3Q6czNjcmV0".to_owned());
    let with_login = at("team/traffic.git", auth);
    assert_eq!(
        texts(&look(&with_login).await.unwrap().head),
        pairs(&[("b.yaml", "b")])
    );
    fs::write(&password_file, "wrong").unwrap();
    assert!(matches!(look(&with_login).await, Err(GitError::Denied(_))));
    assert!(matches!(look(&mirror).await, Err(GitError::Denied(_))));
    fs::remove_file(&password_file).unwrap();
    assert!(matches!(look(&with_login).await, Err(GitError::Local(_))));
    *login.lock().unwrap() = None;

    for not_git in ["login.git", "nothing.git"] {
        let error = look(&at(not_git, Auth::default())).await.unwrap_err();
        assert!(matches!(error, GitError::NotARepository(_)), "{not_git}: {error}");
    }
    let last = repo.git.refname_to_id(repository::BRANCH).unwrap();
    repo.git.reference("refs/heads/other", last, true, "").unwrap();
    repo.delete_branch();
    assert_eq!(look(&mirror).await, Err(GitError::NoBranch("main".to_owned())));
    let nobody = Mirror::new(
        &dir.path().join("nobody"),
        source(remote("http://127.0.0.1:1/x.git"), Auth::default()),
    );
    assert!(matches!(look(&nobody).await, Err(GitError::Unreachable(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn https_trusts_whom_it_is_told_to() {
    if !git_program() {
        return;
    }
    weir_link::tls::install_provider();
    let dir = TempDir::new().unwrap();
    let repo = Repository::with(&dir.path().join("repo"), &[("a.yaml", "a")]);
    let federation = FederationName::new("shop").unwrap();
    let authority = Authority::open(&dir.path().join("ca"), &federation).unwrap();
    let tls = authority.server_tls(&["localhost".to_owned()]).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stop = CancellationToken::new();
    let app = weir_link::App {
        grpc: Router::new(),
        http: hosting(&repo.dir).0,
    };
    tokio::spawn(weir_link::serve(
        listener,
        tls,
        app,
        weir_link::Limits::default(),
        stop.clone(),
    ));
    let url = format!("https://localhost:{port}/team/traffic.git");
    let trusting = Auth {
        ca_file: Some(dir.path().join("ca/ca.pem")),
        ..Auth::default()
    };
    let mirror = Mirror::new(&dir.path().join("git"), source(remote(&url), trusting));
    assert_eq!(
        texts(&look(&mirror).await.unwrap().head),
        pairs(&[("a.yaml", "a")])
    );
    let stranger = Mirror::new(&dir.path().join("other"), source(remote(&url), Auth::default()));
    let error = look(&stranger).await.unwrap_err();
    assert!(
        matches!(&error, GitError::Unreachable(why) if why.contains("certificate")),
        "{error}"
    );
    stop.cancel();
}

/// A stand-in for ssh: notes how it was called and runs the command here.
fn fake_ssh(dir: &Path, body: &str) -> PathBuf {
    let program = dir.join("fake-ssh");
    fs::write(&program, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

#[test]
fn ssh_is_called_as_people_would() {
    if !git_program() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let repo = Repository::with(&dir.path().join("repo"), &[("a.yaml", "1")]);
    let called = dir.path().join("called");
    let run = format!(
        "echo \"$@\" > {}\nfor last; do :; done\nexec sh -c \"$last\"",
        called.display()
    );
    let auth = Auth {
        ssh_program: Some(fake_ssh(dir.path(), &run)),
        ssh_key_file: Some(PathBuf::from("/keys/robot")),
        ..Auth::default()
    };
    let url = format!("ssh://git@git.example.com:2222{}", repo.dir.display());
    let mirror = Mirror::new(&dir.path().join("git"), source(remote(&url), auth));
    assert_eq!(texts(&mirror.look().unwrap().head), pairs(&[("a.yaml", "1")]));
    assert_eq!(
        fs::read_to_string(&called).unwrap(),
        format!(
            "-oBatchMode=yes -oStrictHostKeyChecking=yes -oServerAliveInterval=15 -oConnectTimeout=10 \
             -oIdentitiesOnly=yes -i /keys/robot -p 2222 git@git.example.com git-upload-pack '{}'\n",
            repo.dir.display()
        )
    );
    for n in 2..4 {
        repo.commit("next", &[("a.yaml", &n.to_string())]);
        assert_eq!(
            texts(&mirror.look().unwrap().head),
            pairs(&[("a.yaml", &n.to_string())])
        );
    }
    repo.replace("force-pushed", &[("b.yaml", "b")]);
    assert_eq!(texts(&mirror.look().unwrap().head), pairs(&[("b.yaml", "b")]));
    repo.delete_branch();
    assert_eq!(mirror.look(), Err(GitError::Empty));
}

#[test]
fn what_ssh_says_is_understood() {
    let dir = TempDir::new().unwrap();
    let cases = [
        (
            "echo 'git@h: Permission denied (publickey).' >&2; exit 255",
            "access denied: git.example.com: git@h: Permission denied (publickey).; check `auth` of this source",
        ),
        (
            "echo 'Host key verification failed.' >&2; exit 255",
            "access denied: git.example.com: Host key verification failed.; check `auth` of this source",
        ),
        (
            "echo 'ssh: Could not resolve hostname x' >&2; exit 255",
            "unreachable: git.example.com: ssh: Could not resolve hostname x",
        ),
        (
            "echo \"fatal: '/x' does not appear to be a git repository\" >&2; exit 128",
            "not a Git repository: git.example.com: fatal: '/x' does not appear to be a git repository",
        ),
        ("exit 1", "unreachable: git.example.com: ssh ended without a word"),
    ];
    for (body, told) in cases {
        let auth = Auth {
            ssh_program: Some(fake_ssh(dir.path(), body)),
            ..Auth::default()
        };
        let mirror = Mirror::new(
            &dir.path().join("git"),
            source(remote("git@git.example.com:x"), auth),
        );
        assert_eq!(mirror.look().unwrap_err().to_string(), told);
    }
    let auth = Auth {
        ssh_program: Some(dir.path().join("no-such-program")),
        ..Auth::default()
    };
    let mirror = Mirror::new(
        &dir.path().join("git"),
        source(remote("git@git.example.com:x"), auth),
    );
    assert!(matches!(mirror.look(), Err(GitError::Local(_))));
}

#[test]
fn urls_mean_what_git_clone_means_by_them() {
    let base = Path::new("/etc/weir");
    let shown = |text: &str| Remote::parse(text, base).map(|remote| remote.to_string());
    for (text, is) in [
        (
            "https://git.example.com/team/x.git",
            "https://git.example.com/team/x.git",
        ),
        ("http://127.0.0.1:3000/x", "http://127.0.0.1:3000/x"),
        ("ssh://git@host:22/team/x.git", "ssh://git@host:22/team/x.git"),
        ("ssh://host/~ada/x", "ssh://host/~ada/x"),
        ("ssh://git@[::1]/x", "ssh://git@[::1]/x"),
        ("git@host:team/x.git", "ssh://git@host/team/x.git"),
        ("/srv/x", "/srv/x"),
        ("file:///srv/x", "/srv/x"),
        ("../x", "/etc/weir/../x"),
    ] {
        assert_eq!(shown(text), Ok(is.to_owned()), "{text}");
    }
    for text in [
        "",
        "https://ada:secret@host/x",
        "http://git.example.com/x",
        "https://host/x?y",
        "git://host/x",
        "ssh://-oProxyCommand=touch/x",
        "-oProxyCommand=touch:x",
        "ssh://host/a'b",
        "git@host:$(touch x)",
        "git@host:",
        "ssh://host:port/x",
        "a\nb",
    ] {
        assert!(shown(text).is_err(), "{text}");
    }
}

/// Whoever may commit can make Git name one directory in a million places, or nest them without end, in a few kilobytes.
#[test]
fn a_commit_of_endless_directories_is_refused_and_not_walked() {
    let dir = TempDir::new().unwrap();
    let repo = Repository::with(&dir.path().join("repo"), &[("a.yaml", "a")]);
    let mirror = Mirror::new(&dir.path().join("git"), local(&repo.dir));
    let blob = repo.git.blob(b"a").unwrap();
    let nest = |inner: git2::Oid, names: usize| {
        let mut tree = repo.git.treebuilder(None).unwrap();
        for n in 0..names {
            tree.insert(format!("d{n}"), inner, 0o040_000).unwrap();
        }
        tree.write().unwrap()
    };
    let commit = |tree: git2::Oid| {
        let tree = repo.git.find_tree(tree).unwrap();
        let who = git2::Signature::now("Ada", "ada@example.com").unwrap();
        repo.delete_branch();
        repo.git
            .commit(Some(repository::BRANCH), &who, &who, "bomb", &tree, &[])
            .unwrap();
    };
    let leaf = || {
        let mut tree = repo.git.treebuilder(None).unwrap();
        tree.insert("a.yaml", blob, 0o100_644).unwrap();
        tree.write().unwrap()
    };
    commit((0..1_000).fold(leaf(), |inner, _| nest(inner, 1)));
    let look = mirror.look().unwrap().head.content;
    assert!(
        matches!(look, Content::Unusable(Unusable::TooDeep(_))),
        "{look:?}"
    );
    commit((0..20).fold(nest(blob_free(&repo.git), 1), |inner, _| nest(inner, 20)));
    let look = mirror.look().unwrap().head.content;
    assert!(
        matches!(look, Content::Unusable(Unusable::TooWide(_))),
        "{look:?}"
    );
}

/// A tree without any declaration in it.
fn blob_free(git: &git2::Repository) -> git2::Oid {
    git.treebuilder(None).unwrap().write().unwrap()
}

#[test]
fn what_a_commit_says_cannot_act_on_a_terminal() {
    let dir = TempDir::new().unwrap();
    let repo = Repository::empty(&dir.path().join("repo"));
    let mirror = Mirror::new(&dir.path().join("git"), local(&repo.dir));
    let long = "x".repeat(1_000);
    repo.commit(&format!("\u{1b}[2J\u{7}{long}"), &[("a\u{1b}[2J.yaml", "a")]);
    let head = mirror.look().unwrap().head;
    assert_eq!(head.subject, format!("\u{fffd}[2J\u{fffd}{}…", "x".repeat(195)));
    assert_eq!(texts(&head), pairs(&[("a\u{fffd}[2J.yaml", "a")]));
}

/// A redirect of the first answer moves the rest of the conversation; the password stays behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_another_host_does_not_take_the_password_along() {
    if !git_program() {
        return;
    }
    weir_link::tls::install_provider();
    let dir = TempDir::new().unwrap();
    let repo = Repository::with(&dir.path().join("repo"), &[("a.yaml", "1")]);
    let seen: Arc<Mutex<Vec<bool>>> = Arc::default();
    let (router, _) = hosting(&repo.dir);
    let note = Arc::clone(&seen);
    let router = router.layer(axum::middleware::from_fn(
        move |request: axum::extract::Request, next: axum::middleware::Next| {
            let with = request.headers().contains_key(header::AUTHORIZATION);
            note.lock().unwrap().push(with);
            next.run(request)
        },
    ));
    let there = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let elsewhere = there.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(there, router).await });
    let away = format!("http://{elsewhere}/team/traffic.git/info/refs?service=git-upload-pack");
    let home = Router::new().route(
        "/home.git/info/refs",
        get(move || async move { Redirect::temporary(&away) }),
    );
    let here = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = here.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(here, home).await });
    fs::write(dir.path().join("password"), "s3cret").unwrap();
    let auth = Auth {
        password_file: Some(dir.path().join("password")),
        ..Auth::default()
    };
    let source = source(remote(&format!("http://{address}/home.git")), auth);
    let mirror = Mirror::new(&dir.path().join("git"), source);
    assert_eq!(
        texts(&look(&mirror).await.unwrap().head),
        pairs(&[("a.yaml", "1")])
    );
    let seen = seen.lock().unwrap();
    assert!(!seen.is_empty() && !seen.contains(&true), "{seen:?}");
}
