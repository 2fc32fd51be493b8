//! The command line itself: every command with its flags, and the exit codes. Changed when a command is added.

use clap::{Parser, Subcommand};

use crate::output::{Color, Exit, Output};
use crate::{check, completions, drain, events, explain, history, plan, status, steer, zones};

const CODES: &str = "\
Exit codes:
  0  done, and all is as asked
  1  could not be done, or what was looked at is wrong
  2  asked wrongly: a flag, a file, or a name that does not exist
  3  status: not (yet) proven, or a backend is down; plan: there are changes
  4  status: stale or unknown

status, zones, history and events ask the coordinator that --coordinator or
WEIR_COORDINATOR names, and abort, freeze, resume, drain and undrain order
there; the others work on files and open no connection.";

/// Declared traffic splits across Kuma zones: check them, plan them, see what runs.
#[derive(Debug, Parser)]
#[command(name = "weir", version, propagate_version = true, max_term_width = 80, after_help = CODES)]
pub struct Weir {
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    /// When to use colour; `auto` is only on a terminal and never with NO_COLOR.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check declaration files, offline.
    Check(check::Args),
    /// Show what a change of declaration changes in each zone, offline.
    Plan(plan::Args),
    /// Explain a diagnostic code.
    Explain(explain::Args),
    /// Show what each split declares and what each zone runs, by proof.
    Status(status::Args),
    /// Show zones and their agents.
    Zones(zones::Args),
    /// Show commits, or the steps of a split, and when each zone followed.
    History(history::Args),
    /// Break off the transition of a split: back to where it last rested, at once.
    #[command(override_usage = "weir abort [OPTIONS] --reason <WHY> <SPLIT>")]
    Abort(steer::Abort),
    /// Keep a split, or all, where they are; reverts and aborts pass.
    #[command(override_usage = "weir freeze [OPTIONS] --reason <WHY> [SPLIT]")]
    Freeze(steer::Args),
    /// End a freeze, or the quarantine of a split.
    #[command(override_usage = "weir resume [OPTIONS] --reason <WHY> [SPLIT]")]
    Resume(steer::Args),
    /// Take a backend's share away for it to be stopped, and wait until all zones prove it.
    #[command(override_usage = "weir drain [OPTIONS] --reason <WHY> <SPLIT> <BACKEND>")]
    Drain(drain::Args),
    /// End a drain: the split goes to what Git declares.
    #[command(override_usage = "weir undrain [OPTIONS] --reason <WHY> <SPLIT> <BACKEND>")]
    Undrain(drain::End),
    /// Show what happened, and with --follow what happens.
    Events(events::Args),
    /// Print a completion script for a shell.
    Completions(completions::Args),
}

impl Weir {
    /// Runs the command and tells how it ended.
    pub fn run(self) -> Exit {
        let output = Output::new(self.json, self.color);
        match &self.command {
            Command::Check(args) => check::run(args, &output),
            Command::Plan(args) => plan::run(args, &output),
            Command::Explain(args) => explain::run(args, &output),
            Command::Status(args) => status::run(args, &output),
            Command::Zones(args) => zones::run(args, &output),
            Command::History(args) => history::run(args, &output),
            Command::Abort(args) => steer::abort(args, &output),
            Command::Freeze(args) => steer::freeze(args, &output),
            Command::Resume(args) => steer::resume(args, &output),
            Command::Drain(args) => drain::run(args, &output),
            Command::Undrain(args) => drain::end(args, &output),
            Command::Events(args) => events::run(args, &output),
            Command::Completions(args) => completions::run(args, &output),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Weir;

    #[test]
    fn the_command_line_is_consistent() {
        Weir::command().debug_assert();
    }
}
