//! `weir abort`, `weir freeze`, `weir resume`: what people want beside Git. The coordinator records who wants it and why.

use weir_wire::api::{OrderAnswer, OrderRequest};

use crate::connection::Connection;
use crate::layout::wrapped;
use crate::output::{Exit, Output};

pub(crate) const CODES: &str = "\
An order needs a token of `weir-coordinator token create --operator NAME`; it is
recorded under that name.

Exit codes: 0 done, 1 refused or the coordinator cannot be asked, 2 asked
wrongly.";

/// Flags of `weir abort`.
#[derive(Debug, clap::Args)]
#[command(after_help = CODES)]
pub struct Abort {
    /// The split.
    #[arg(value_name = "SPLIT")]
    pub split: String,
    /// Why, for whoever reads the history.
    #[arg(long, value_name = "WHY", value_parser = words)]
    pub reason: String,
    /// Where to ask.
    #[command(flatten)]
    pub connection: Connection,
}

/// Flags of `weir freeze` and `weir resume`.
#[derive(Debug, clap::Args)]
#[command(after_help = CODES)]
pub struct Args {
    /// The split; all without it.
    #[arg(value_name = "SPLIT")]
    pub split: Option<String>,
    /// Why, for whoever reads the history.
    #[arg(long, value_name = "WHY", value_parser = words)]
    pub reason: String,
    /// Where to ask.
    #[command(flatten)]
    pub connection: Connection,
}

pub(crate) fn words(text: &str) -> Result<String, String> {
    let text = text.trim();
    match text.chars().count() {
        1..=500 => Ok(text.to_owned()),
        _ => Err("a reason has 1 to 500 characters".to_owned()),
    }
}

/// Runs `weir abort`.
pub fn abort(args: &Abort, output: &Output) -> Exit {
    order("abort", Some(&args.split), &args.reason, &args.connection, output)
}

/// Runs `weir freeze`.
pub fn freeze(args: &Args, output: &Output) -> Exit {
    order(
        "freeze",
        args.split.as_deref(),
        &args.reason,
        &args.connection,
        output,
    )
}

/// Runs `weir resume`.
pub fn resume(args: &Args, output: &Output) -> Exit {
    order(
        "resume",
        args.split.as_deref(),
        &args.reason,
        &args.connection,
        output,
    )
}

fn order(verb: &str, split: Option<&str>, reason: &str, connection: &Connection, output: &Output) -> Exit {
    let path = match split {
        Some(split) => format!("v1/splits/{split}/{verb}"),
        None => format!("v1/{verb}"),
    };
    if let Some(split) = split
        && let Some(wrong) = weir_model::SplitName::new(split).err()
    {
        output.complain(wrapped(&format!(
            "error: `{split}` is no name of a split: {wrong}"
        )));
        return Exit::Usage;
    }
    connection.run(output, async |client| {
        let body = OrderRequest {
            reason: reason.to_owned(),
        };
        let answer = client.post(&path, &body).await?;
        let told: OrderAnswer = answer.read()?;
        if output.json {
            output.print_json(&answer.value);
        } else {
            let of = split.unwrap_or("all splits");
            output.print(wrapped(&format!("{of}: {}", told.message)));
        }
        Ok(if told.done { Exit::Fine } else { Exit::Failure })
    })
}
