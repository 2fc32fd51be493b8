//! Logs of the two daemons: to stderr, by `WEIR_LOG` (default `info`), as text or JSON.

use std::io::IsTerminal as _;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;

/// `--log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// A line a record, for people.
    #[default]
    Text,
    /// A JSON object a record, for machines.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("`{other}` is not a log format (text, json)")),
        }
    }
}

/// Starts logging; once in each `main`.
///
/// # Errors
/// If `WEIR_LOG` cannot be read, or logging was started before.
pub fn start(format: LogFormat) -> Result<(), String> {
    let filter = match std::env::var("WEIR_LOG") {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text)
            .map_err(|e| format!("WEIR_LOG is `{text}`: {e}; try `info` or `weir_agent=debug,info`"))?,
        _ => EnvFilter::new("info"),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().with_current_span(false).try_init(),
    }
    .map_err(|e| format!("cannot start logging: {e}"))
}
