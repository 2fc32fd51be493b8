//! A Git repository made for one test, always with the same commits, and the `weir` program run in it.

use std::cell::Cell;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use git2::{IndexAddOption, RepositoryInitOptions, ResetType, Signature, Time};
use tempfile::TempDir;

pub(crate) struct Repository {
    directory: TempDir,
    git: git2::Repository,
    clock: Cell<i64>,
}

impl Repository {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut options = RepositoryInitOptions::new();
        options.initial_head("main").external_template(false);
        let git = git2::Repository::init_opts(directory.path(), &options).unwrap();
        Self {
            directory,
            git,
            clock: Cell::new(1_700_000_000),
        }
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.directory.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Writes files and commits everything.
    pub(crate) fn commit(&self, message: &str, files: &[(&str, &str)]) {
        for (path, text) in files {
            self.write(path, text);
        }
        let mut index = self.git.index().unwrap();
        index.add_all(["*"], IndexAddOption::DEFAULT, None).unwrap();
        index.write().unwrap();
        let tree = self.git.find_tree(index.write_tree().unwrap()).unwrap();
        self.clock.set(self.clock.get() + 60);
        let author = Signature::new("Ada", "ada@example.com", &Time::new(self.clock.get(), 0)).unwrap();
        let parent = self.git.head().ok().map(|head| head.peel_to_commit().unwrap());
        let parents: Vec<&git2::Commit<'_>> = parent.iter().collect();
        self.git
            .commit(Some("HEAD"), &author, &author, message, &tree, &parents)
            .unwrap();
    }

    /// Puts the files of a revision into the work tree; `main` stays where it is.
    pub(crate) fn reset(&self, revision: &str) {
        let commit = self.git.revparse_single(revision).unwrap();
        let main = self.git.head().unwrap().target().unwrap();
        self.git.set_head_detached(main).unwrap();
        self.git.reset(&commit, ResetType::Hard, None).unwrap();
    }

    pub(crate) fn weir(&self, arguments: &[&str]) -> Ran {
        run(self.directory.path(), arguments)
    }
}

/// What a run of the program left behind.
pub(crate) struct Ran {
    asked: String,
    pub(crate) exit: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn run(directory: &Path, arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.current_dir(directory).args(arguments);
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS"] {
        command.env_remove(name);
    }
    let output = command
        .env("GIT_CEILING_DIRECTORIES", directory)
        .output()
        .unwrap();
    let real = directory.canonicalize().unwrap();
    let text = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).unwrap();
        text.replace(real.to_str().unwrap(), "[DIR]")
            .replace(directory.to_str().unwrap(), "[DIR]")
    };
    Ran {
        asked: arguments.join(" "),
        exit: output.status.code().unwrap(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

impl Ran {
    pub(crate) fn transcript(&self) -> String {
        let mut text = format!("$ weir {}\n{}", self.asked, self.stdout);
        if !self.stderr.is_empty() {
            write!(text, "--- standard error\n{}", self.stderr).unwrap();
        }
        writeln!(text, "--- exit {}", self.exit).unwrap();
        text
    }
}
