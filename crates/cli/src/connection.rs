//! The connection to a coordinator: its flags, and the client of the read API.

use std::path::PathBuf;

/// Where the coordinator is and how to be let in.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct Connection {
    /// The coordinator's address, https://HOST:PORT.
    #[arg(long, env = "WEIR_COORDINATOR", value_name = "URL")]
    pub coordinator: Option<String>,
    /// File that holds a viewer token. [WEIR_TOKEN may hold the token itself]
    #[arg(long, env = "WEIR_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// File that holds the coordinator's CA certificate, PEM.
    #[arg(long, env = "WEIR_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
}
