//! Repositories over http and https, from git's own server side.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use weir_coordinator::ca::Authority;
use weir_coordinator::config::Auth;
use weir_coordinator::git::{BareCopy, GitError, Lineage, Look};
use weir_model::FederationName;

use super::{git_program, lineage, pairs, remote, source, texts};
use crate::repository::{self, Repository};

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

async fn look(copy: &BareCopy) -> Result<Look, GitError> {
    let copy = copy.clone();
    tokio::task::spawn_blocking(move || copy.look()).await.unwrap()
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
        BareCopy::new(&dir.path().join(path), source)
    };
    let copy = at("team/traffic.git", Auth::default());
    assert_eq!(texts(&look(&copy).await.unwrap().head), pairs(&[("a.yaml", "1")]));
    let mut before = repo.git.refname_to_id(repository::BRANCH).unwrap();
    for n in 2..5 {
        repo.commit("next", &[("a.yaml", &n.to_string())]);
        let newest = repo.commit("and one more", &[("a.yaml", &format!("{n}.1"))]);
        assert_eq!(
            texts(&look(&copy).await.unwrap().head),
            pairs(&[("a.yaml", &format!("{n}.1"))])
        );
        // Two commits came in one push: the newest alone does not tell what it was made from.
        let (copy, old) = (copy.clone(), before);
        let both =
            tokio::task::spawn_blocking(move || (lineage(&copy, newest, old), lineage(&copy, old, newest)));
        assert_eq!(both.await.unwrap(), (Lineage::Descends, Lineage::Precedes), "{n}");
        before = newest;
    }
    repo.replace("force-pushed", &[("b.yaml", "b")]);
    assert_eq!(texts(&look(&copy).await.unwrap().head), pairs(&[("b.yaml", "b")]));
    assert_eq!(look(&copy).await.unwrap().recloned, None);
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
    assert!(matches!(look(&copy).await, Err(GitError::Denied(_))));
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
    assert_eq!(look(&copy).await, Err(GitError::NoBranch("main".to_owned())));
    let nobody = BareCopy::new(
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
    let copy = BareCopy::new(&dir.path().join("git"), source(remote(&url), trusting));
    assert_eq!(texts(&look(&copy).await.unwrap().head), pairs(&[("a.yaml", "a")]));
    let stranger = BareCopy::new(&dir.path().join("other"), source(remote(&url), Auth::default()));
    let error = look(&stranger).await.unwrap_err();
    assert!(
        matches!(&error, GitError::Unreachable(why) if why.contains("certificate")),
        "{error}"
    );
    stop.cancel();
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
    let copy = BareCopy::new(&dir.path().join("git"), source);
    assert_eq!(texts(&look(&copy).await.unwrap().head), pairs(&[("a.yaml", "1")]));
    let seen = seen.lock().unwrap();
    assert!(!seen.is_empty() && !seen.contains(&true), "{seen:?}");
}
