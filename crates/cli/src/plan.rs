//! `weir plan`: what a change of declaration changes in each zone, offline.
//!
//! Two revisions of a Git repository are read as the coordinator reads them, planned one after the other, and rendered to
//! the objects that each zone's agents would write. Nothing is asked of anybody, so what only the federation knows is
//! left out: generations, and what a zone runs at the moment. With `--live` the coordinator is asked for one thing, what
//! callers have open now.

mod objects;
mod report;
mod revision;
mod unified;
mod yaml;

use jiff::Timestamp;
use weir_model::{
    Declaration, Diagnostic, Severity, SourceCommit, SourceFile, Style, parse, render_diagnostics,
};
use weir_planner::{DRAIN, Finding, Generation, Inputs, Plan, Planned, Refusal, explain, lint, plan};

use weir_wire::api::SplitList;

use crate::connection::Connection;
use crate::output::{Exit, Output};
use revision::{Repository, Revision};

/// Flags of `weir plan`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 planned, 1 refused, 2 asked wrongly or nothing to read there, \
3 there are changes (only with --detailed-exitcode).")]
pub struct Args {
    /// The revision that is in force: a commit, branch or tag, as Git names it.
    from: String,
    /// The revision that would follow.
    #[arg(required_unless_present = "worktree", conflicts_with = "worktree")]
    to: Option<String>,
    /// Plan the files as they are on disk, instead of TO.
    #[arg(long)]
    worktree: bool,
    /// A directory in the Git repository.
    #[arg(long, value_name = "DIR", default_value = ".")]
    repo: std::path::PathBuf,
    /// Read only files below this path of the repository.
    #[arg(long, value_name = "P", default_value = ".")]
    path: String,
    /// End with 3 if there are changes.
    #[arg(long)]
    detailed_exitcode: bool,
    /// Ask the coordinator how much callers have open now where the change closes connections.
    #[arg(long)]
    live: bool,
    /// Where to ask.
    #[command(flatten)]
    connection: Connection,
}

/// One side of the comparison, read.
pub(crate) struct Side {
    /// How it was asked for.
    pub(crate) name: String,
    pub(crate) commit: SourceCommit,
    pub(crate) files: Vec<SourceFile>,
    pub(crate) declaration: Declaration,
    pub(crate) diagnostics: Vec<Diagnostic>,
    refused: bool,
}

impl Side {
    /// What no gateway could run of it. What was so before is in the way of nothing else.
    fn at_gateways(&mut self, before: &Self) {
        if self.refused {
            return;
        }
        let mut found =
            weir_render::kong::declared_after(&self.declaration, || Some(before.declaration.clone()));
        self.refused = found.iter().any(|one| one.severity == Severity::Error);
        self.diagnostics.append(&mut found);
    }
}

/// Runs it.
pub fn run(args: &Args, output: &Output) -> Exit {
    let (from, mut to) = match read(args) {
        Ok(sides) => sides,
        Err(error) => {
            output.complain(report::wrapped(&format!("error: {error}")));
            return Exit::Usage;
        }
    };
    // a repository that declares nothing yet is no error, it is where every one begins
    if from.refused && !from.files.is_empty() {
        return refuse(
            &from,
            "so it is not in force: as FROM give the commit that is",
            output,
        );
    }
    to.at_gateways(&from);
    if to.refused {
        return refuse(&to, "nothing would change anywhere", output);
    }
    complain(&to, output);
    match planned(&from, &to) {
        Err(Unplannable { side, reasons: texts }) => {
            if output.json {
                output.print_json(&report::refused(side, &texts));
            }
            for text in texts {
                output.complain(report::wrapped(&format!("error: {text}")));
            }
            output.complain(report::wrapped(&format!(
                "{} cannot be planned: nothing would change",
                side.name
            )));
            Exit::Failure
        }
        Ok((before, after)) => {
            let explanation = explain(before.as_ref(), &after);
            let objects = objects::changes(
                before.as_ref().map(|plan| (plan, &from.declaration)),
                (&after, &to.declaration),
            );
            let changes = !explanation.diff.is_empty();
            let mut report = report::Report::new(&from, &to, explanation, objects);
            let mut tell = |list: Option<&SplitList>| {
                if let Some(list) = list {
                    report.live(list);
                }
                if output.json {
                    output.print_json(&report);
                } else {
                    output.print(report.text());
                }
                if changes && args.detailed_exitcode {
                    Exit::Differs
                } else {
                    Exit::Fine
                }
            };
            if !args.live {
                return tell(None);
            }
            args.connection.run(output, async |client| {
                let list: SplitList = client.get("v1/splits").await?.read()?;
                Ok(tell(Some(&list)))
            })
        }
    }
}

fn read(args: &Args) -> Result<(Side, Side), revision::Unreadable> {
    let repository = Repository::open(&args.repo, &args.path)?;
    let from = side(&args.from, repository.revision(&args.from)?);
    let to = match &args.to {
        Some(to) => side(to, repository.revision(to)?),
        None => side("the work tree", repository.work_tree()?),
    };
    Ok((from, to))
}

fn side(name: &str, revision: Revision) -> Side {
    let parsed = parse(&revision.files);
    Side {
        name: name.to_owned(),
        commit: revision.commit,
        refused: parsed.refused(),
        files: revision.files,
        declaration: parsed.declaration,
        diagnostics: parsed.diagnostics,
    }
}

/// A side that the planner refuses though the model finds nothing wrong with it; in words.
struct Unplannable<'a> {
    side: &'a Side,
    reasons: Vec<String>,
}

fn refused(reason: &Refusal) -> String {
    format!("{reason} [{}]", reason.code())
}

fn unsound(finding: &Finding) -> String {
    format!(
        "planning went wrong, and no coordinator would publish this: {finding}; please report it with the commit"
    )
}

/// Both plans; the first is none where nothing was declared.
fn planned<'a>(from: &'a Side, to: &'a Side) -> Result<(Option<Plan>, Plan), Unplannable<'a>> {
    let make = |side: &'a Side, parent: Option<&Plan>, now: Timestamp| {
        let inputs = Inputs {
            declaration: &side.declaration,
            commits: std::slice::from_ref(&side.commit),
            highest: Generation(0),
            parent,
            now,
        };
        match plan(inputs) {
            Planned::New(plan) => {
                let reasons: Vec<String> = lint(&plan, parent).iter().map(unsound).collect();
                match reasons.is_empty() {
                    true => Ok(Some(plan)),
                    false => Err(Unplannable { side, reasons }),
                }
            }
            Planned::Nothing => Ok(None),
            Planned::Refused(reasons) => {
                let reasons = reasons.iter().map(refused).collect();
                Err(Unplannable { side, reasons })
            }
        }
    };
    // as if the first had long been in force: what a coordinator knows of time is not known here
    let before = if from.refused {
        None
    } else {
        make(from, None, Timestamp::UNIX_EPOCH)?
    };
    let after = make(to, before.as_ref(), Timestamp::UNIX_EPOCH + DRAIN)?;
    let unchanged = || before.clone();
    match after.or_else(unchanged) {
        Some(after) => Ok((before, after)),
        // a first plan is made even of an empty declaration
        None => Err(Unplannable {
            side: to,
            reasons: Vec::new(),
        }),
    }
}

/// Warnings of the newer side go to people; errors never come here.
fn complain(to: &Side, output: &Output) {
    if !output.json && !to.diagnostics.is_empty() {
        output.complain(render_diagnostics(&to.diagnostics, &to.files, style(output)));
    }
}

fn refuse(side: &Side, consequence: &str, output: &Output) -> Exit {
    if output.json {
        output.print_json(&report::refused(side, &[]));
    } else {
        output.complain(render_diagnostics(&side.diagnostics, &side.files, style(output)));
        output.complain("\n");
    }
    output.complain(report::wrapped(&format!(
        "{} is refused, {consequence}",
        side.name
    )));
    Exit::Failure
}

fn style(output: &Output) -> Style {
    Style {
        color: output.color(),
        width: 80,
    }
}
