//! The connection to a coordinator: its flags, and what they must hold before anything is sent.

use std::ffi::OsString;
use std::path::Path;

use reqwest::Url;
use weir_link::PersonToken;

use crate::client::Client;
use crate::output::{Exit, Output};
use crate::trouble::{Kind, Trouble};

/// Where the coordinator is and how to be let in.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct Connection {
    /// The coordinator's address, https://HOST:PORT.
    #[arg(long, env = "WEIR_COORDINATOR", value_name = "URL")]
    pub coordinator: Option<String>,
    /// File that holds a viewer's or an operator's token. [WEIR_TOKEN may hold the token itself]
    #[arg(long, env = "WEIR_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<OsString>,
    /// File that holds the coordinator's CA certificate, PEM; without it the system's authorities are trusted.
    #[arg(long, env = "WEIR_CA", value_name = "FILE")]
    pub ca: Option<OsString>,
}

impl Connection {
    /// Runs a command that asks the coordinator, and says what went wrong if it did.
    pub fn run(&self, output: &Output, ask: impl AsyncFnOnce(Client) -> Result<Exit, Trouble>) -> Exit {
        let ran = self.open().and_then(|client| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| {
                    let help = "see what the system says; there may be too many open files or processes";
                    Trouble::new(Kind::Silent, "the network cannot be used", help).because(error.to_string())
                })?
                .block_on(ask(client))
        });
        ran.unwrap_or_else(|trouble| {
            output.complain(trouble.text());
            trouble.exit()
        })
    }

    fn open(&self) -> Result<Client, Trouble> {
        let url = self.url()?;
        let token = self.token()?;
        let ca = file(self.ca.as_ref()).map(|file| Ok((file, certificates(file)?)));
        Client::new(url, token, ca.transpose()?)
    }

    fn url(&self) -> Result<Url, Trouble> {
        let form = "write it as https://HOST:PORT";
        let Some(text) = self
            .coordinator
            .as_deref()
            .map(str::trim)
            .filter(|t| !t.is_empty())
        else {
            return Err(Trouble::new(
                Kind::Asked,
                "no coordinator is named",
                "give --coordinator https://HOST:PORT, or set WEIR_COORDINATOR",
            ));
        };
        let url = Url::parse(text).map_err(|error| {
            Trouble::new(
                Kind::Asked,
                format!("`{text}` is not an address of a coordinator"),
                form,
            )
            .because(error.to_string())
        })?;
        let refuse = |what: &str| Trouble::new(Kind::Asked, format!("{what} in --coordinator"), form);
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("there is a name or a password"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("there is a `?` or a `#`"));
        }
        match url.scheme() {
            "https" => Ok(url),
            "http" if loopback(&url) => Ok(url),
            "http" => Err(Trouble::new(
                Kind::Asked,
                format!("`{text}` would carry the token unencrypted"),
                "write https: a coordinator speaks nothing else",
            )),
            _ => Err(Trouble::new(
                Kind::Asked,
                format!("`{text}` is not an address of a coordinator"),
                form,
            )),
        }
    }

    /// The file counts before the variable.
    fn token(&self) -> Result<Option<PersonToken>, Trouble> {
        let help = "make one with `weir-coordinator token create --config F --viewer NAME`";
        let (text, place) = match file(self.token_file.as_ref()) {
            Some(file) => {
                let text = std::fs::read_to_string(file).map_err(|error| {
                    Trouble::new(
                        Kind::Asked,
                        format!("the token file {} cannot be read", file.display()),
                        "give --token-file the file that holds your token",
                    )
                    .because(error.to_string())
                })?;
                (text, file.display().to_string())
            }
            None => match std::env::var("WEIR_TOKEN") {
                Ok(text) if !text.is_empty() => (text, "WEIR_TOKEN".to_owned()),
                Ok(_) | Err(std::env::VarError::NotPresent) => return Ok(None),
                Err(error @ std::env::VarError::NotUnicode(_)) => {
                    return Err(Trouble::new(Kind::Asked, "WEIR_TOKEN is not a token", help)
                        .because(error.to_string()));
                }
            },
        };
        let token = text.parse::<PersonToken>().map_err(|why| {
            Trouble::new(
                Kind::Asked,
                format!("{place} holds no token that can read or order"),
                help,
            )
            .because(why.to_string())
        })?;
        Ok(Some(token))
    }
}

/// A variable that is set to nothing names no file.
fn file(named: Option<&OsString>) -> Option<&Path> {
    named.filter(|name| !name.is_empty()).map(Path::new)
}

fn loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn certificates(file: &Path) -> Result<Vec<reqwest::Certificate>, Trouble> {
    let help = "give --ca the file ca/ca.pem below the coordinator's data directory";
    let pem = std::fs::read(file).map_err(|error| {
        let what = format!("the CA file {} cannot be read", file.display());
        Trouble::new(Kind::Asked, what, help).because(error.to_string())
    })?;
    match reqwest::Certificate::from_pem_bundle(&pem) {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(Trouble::new(
            Kind::Asked,
            format!("{} holds no certificate in PEM", file.display()),
            help,
        )),
    }
}
