//! `weir explain`: a diagnostic code's page.

use serde_json::json;
use weir_model::{Code, codes};

use crate::output::{Exit, Output};

/// Flags of `weir explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A code such as WEIR0102 (or 102); without it all codes are listed.
    #[arg(value_name = "CODE")]
    pub code: Option<String>,
}

/// Runs it.
pub fn run(args: &Args, output: &Output) -> Exit {
    let Some(text) = &args.code else {
        list(output);
        return Exit::Fine;
    };
    let Some(entry) = number(text).and_then(codes::entry) else {
        output.complain(format_args!(
            "error: there is no code `{text}`; `weir explain` alone lists them all\n"
        ));
        return Exit::Usage;
    };
    if output.json {
        output.print_json(&described(entry));
    } else {
        output.print(entry.page);
    }
    Exit::Fine
}

/// The number in `WEIR0102`, `weir102` or `102`.
fn number(text: &str) -> Option<Code> {
    let upper = text.to_ascii_uppercase();
    let digits = upper.strip_prefix("WEIR").unwrap_or(&upper);
    digits.parse().ok().map(Code)
}

fn described(entry: &codes::Entry) -> serde_json::Value {
    json!({"code": entry.code.to_string(), "title": entry.title(), "page": entry.page})
}

fn list(output: &Output) {
    if output.json {
        output.print_json(&codes::ALL.iter().map(described).collect::<Vec<_>>());
    } else {
        for entry in codes::ALL {
            output.print(format_args!("{}  {}\n", entry.code, entry.title()));
        }
    }
}
