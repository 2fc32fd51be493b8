//! Tokens: what lets an agent join one zone, once, and what lets a person read, or read and order. The ledger keeps only
//! hashes.
//!
//! Every change is one SQL statement, so that of two agents that come with one token exactly one wins, and so that
//! `weir-coordinator token ...` may work beside a coordinator that serves.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqlitePool};
use weir_link::{AgentToken, Fingerprint, OperatorToken, PersonToken, ViewerToken};
use weir_model::ZoneName;

use crate::ledger::time;

const SECRET: usize = 40;
const HASHING: &str = "weir.dev token secret, version 1";

/// The tokens of the ledger. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tokens {
    pool: SqlitePool,
}

/// A token that was just made: the only time that its text is known.
#[derive(Debug, Clone)]
pub struct NewToken<T> {
    /// Its text holds the secret.
    pub token: T,
    /// When it ends.
    pub expires: Timestamp,
}

/// What a token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// One agent may join this zone.
    Join(ZoneName),
    /// Whoever has it may read; its name is for people.
    Read(String),
    /// Whoever has it may order and read; its name is who ordered.
    Operate(String),
}

/// Who shows a token to the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The token's name.
    pub name: String,
    /// Whether they may order.
    pub operator: bool,
}

/// How a token stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It can be used.
    Open,
    /// An agent joined with it.
    Spent {
        /// When.
        at: Timestamp,
        /// Which agent.
        by: String,
    },
    /// Its time is over.
    Expired,
    /// Somebody took it back.
    Revoked {
        /// When.
        at: Timestamp,
    },
}

/// A token as the ledger knows it: without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// Its id.
    pub id: String,
    /// What it is for.
    pub purpose: Purpose,
    /// How it stands now.
    pub state: State,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// When a person last used it, to the minute.
    pub used: Option<Timestamp>,
}

/// Why a token does not do. The text is what a newcomer sees.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Never made here, or its secret is another.
    #[error(
        "this token is not known to this coordinator: copy it again, whole, or create another \
         (`weir-coordinator token create --zone <zone>`)"
    )]
    Unknown,
    /// For another zone.
    #[error(
        "this token joins zone {token}, but the agent is set up for zone {agent}: nothing was changed and the token can \
         still be used; set `zone: {token}`, or create a token with `weir-coordinator token create --zone {agent}`"
    )]
    OtherZone {
        /// The token's.
        token: ZoneName,
        /// The agent's.
        agent: String,
    },
    /// Used before.
    #[error(
        "this token was spent by agent {by} at {at:.0}: each token joins one agent; create another with \
         `weir-coordinator token create --zone {zone}`"
    )]
    Spent {
        /// The token's zone.
        zone: String,
        /// When.
        at: Timestamp,
        /// Which agent.
        by: String,
    },
    /// Too late.
    #[error("this token expired at {at:.0}: create another with `weir-coordinator token create {what}`")]
    Expired {
        /// When.
        at: Timestamp,
        /// For the command.
        what: String,
    },
    /// Taken back.
    #[error("this token was revoked at {at:.0}: ask whoever runs the coordinator for another")]
    Revoked {
        /// When.
        at: Timestamp,
    },
    /// The ledger failed.
    #[error("the coordinator's ledger cannot be used at the moment ({0}): try again")]
    Ledger(String),
}

impl From<sqlx::Error> for Refused {
    fn from(error: sqlx::Error) -> Self {
        Self::Ledger(error.to_string())
    }
}

/// What became of a revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoked {
    /// It was open and is not any more.
    Now,
    /// It could not be used any more anyhow.
    Before(State),
    /// There is no such token.
    Unknown,
}

struct Stored {
    record: TokenRecord,
    hash: blake3::Hash,
}

impl Tokens {
    /// The tokens of this database, whose schema is up to date.
    pub fn new(pool: SqlitePool) -> Self {
        Self { pool }
    }

    /// Makes a token with which one agent may join `zone`.
    ///
    /// # Errors
    /// If the ledger cannot be written.
    pub async fn create_agent(
        &self,
        zone: &ZoneName,
        life: Duration,
        authority: Fingerprint,
        now: Timestamp,
    ) -> Result<NewToken<AgentToken>, Refused> {
        let expires = end(now, life)?;
        let (id, secret) = self.insert("agent", zone.as_str(), now, expires).await?;
        let token = AgentToken::new(&id, &secret, authority).map_err(|e| Refused::Ledger(e.to_string()))?;
        Ok(NewToken { token, expires })
    }

    /// Makes a token with which one may read the HTTP API.
    ///
    /// # Errors
    /// If the ledger cannot be written.
    pub async fn create_viewer(
        &self,
        name: &str,
        life: Duration,
        now: Timestamp,
    ) -> Result<NewToken<ViewerToken>, Refused> {
        let expires = end(now, life)?;
        let (id, secret) = self.insert("viewer", name, now, expires).await?;
        let token = ViewerToken::new(&id, &secret).map_err(|e| Refused::Ledger(e.to_string()))?;
        Ok(NewToken { token, expires })
    }

    /// Makes a token with which one may order over the HTTP API, and read it.
    ///
    /// # Errors
    /// If the ledger cannot be written.
    pub async fn create_operator(
        &self,
        name: &str,
        life: Duration,
        now: Timestamp,
    ) -> Result<NewToken<OperatorToken>, Refused> {
        let expires = end(now, life)?;
        let (id, secret) = self.insert("operator", name, now, expires).await?;
        let token = OperatorToken::new(&id, &secret).map_err(|e| Refused::Ledger(e.to_string()))?;
        Ok(NewToken { token, expires })
    }

    async fn insert(
        &self,
        kind: &str,
        subject: &str,
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<(String, String), Refused> {
        let (id, secret) = draw()?;
        sqlx::query(
            "INSERT INTO tokens (id, kind, subject, hash, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(&id)
        .bind(kind)
        .bind(subject)
        .bind(hash(&secret).to_hex().as_str())
        .bind(time(now))
        .bind(time(expires))
        .execute(&self.pool)
        .await?;
        Ok((id, secret))
    }

    /// The zone that a token would join, if it can be spent now and by an agent of that zone.
    ///
    /// # Errors
    /// Why it cannot.
    pub async fn examine(&self, token: &AgentToken, zone: &str, now: Timestamp) -> Result<ZoneName, Refused> {
        let stored = self.find(token.id(), now).await?.ok_or(Refused::Unknown)?;
        // Comparing hashes takes the same time whatever differs.
        if stored.hash != hash(token.secret()) {
            return Err(Refused::Unknown);
        }
        let Purpose::Join(bound) = stored.record.purpose else {
            return Err(Refused::Unknown);
        };
        match stored.record.state {
            State::Open if zone.is_empty() || bound.as_str() == zone => Ok(bound),
            State::Open => Err(Refused::OtherZone {
                token: bound,
                agent: zone.to_owned(),
            }),
            State::Spent { at, by } => Err(Refused::Spent {
                zone: bound.to_string(),
                at,
                by,
            }),
            State::Expired => Err(Refused::Expired {
                at: stored.record.expires,
                what: format!("--zone {bound}"),
            }),
            State::Revoked { at } => Err(Refused::Revoked { at }),
        }
    }

    /// Spends a token: from now on nobody else can. Of several that try at a time, one succeeds.
    ///
    /// # Errors
    /// Why it cannot be spent.
    pub async fn spend(
        &self,
        token: &AgentToken,
        zone: &str,
        agent: &str,
        now: Timestamp,
    ) -> Result<ZoneName, Refused> {
        let bound = self.examine(token, zone, now).await?;
        let spent = sqlx::query(
            "UPDATE tokens SET spent_at = $1, spent_by = $2 WHERE id = $3 AND kind = 'agent' AND hash = $4 \
             AND spent_at IS NULL AND revoked_at IS NULL AND expires_at > $1",
        )
        .bind(time(now))
        .bind(agent)
        .bind(token.id())
        .bind(hash(token.secret()).to_hex().as_str())
        .execute(&self.pool)
        .await?;
        if spent.rows_affected() == 1 {
            return Ok(bound);
        }
        // Somebody was faster: say who.
        match self.examine(token, zone, now).await {
            Err(why) => Err(why),
            Ok(_) => Err(Refused::Ledger("the token was not spent".to_owned())),
        }
    }

    /// The name of the viewer whose token this is. Notes that it was used.
    ///
    /// # Errors
    /// Why it does not do.
    pub async fn viewer(&self, token: &ViewerToken, now: Timestamp) -> Result<String, Refused> {
        let person = self.person(&PersonToken::Viewer(token.clone()), now).await?;
        Ok(person.name)
    }

    /// Whose token this is. Notes that it was used.
    ///
    /// # Errors
    /// Why it does not do.
    pub async fn person(&self, token: &PersonToken, now: Timestamp) -> Result<Person, Refused> {
        let (id, secret) = match token {
            PersonToken::Viewer(token) => (token.id(), token.secret()),
            PersonToken::Operator(token) => (token.id(), token.secret()),
        };
        let stored = self.find(id, now).await?.ok_or(Refused::Unknown)?;
        if stored.hash != hash(secret) {
            return Err(Refused::Unknown);
        }
        let record = stored.record;
        // What the ledger says counts; a text that calls itself otherwise was made by somebody else.
        let (person, flag) = match (record.purpose, token) {
            (Purpose::Read(name), PersonToken::Viewer(_)) => (
                Person {
                    name,
                    operator: false,
                },
                "--viewer",
            ),
            (Purpose::Operate(name), PersonToken::Operator(_)) => {
                (Person { name, operator: true }, "--operator")
            }
            _ => return Err(Refused::Unknown),
        };
        match record.state {
            State::Open | State::Spent { .. } => {}
            State::Expired => {
                return Err(Refused::Expired {
                    at: record.expires,
                    what: format!("{flag} {}", person.name),
                });
            }
            State::Revoked { at } => return Err(Refused::Revoked { at }),
        }
        let minute = Duration::from_secs(60);
        if record.used.is_none_or(|used| used + minute <= now) {
            let noted = sqlx::query("UPDATE tokens SET used_at = $1 WHERE id = $2")
                .bind(time(now))
                .bind(id)
                .execute(&self.pool)
                .await;
            // A ledger that takes no writes is when people need to read most.
            if let Err(error) = noted {
                tracing::warn!(%error, token = id, "that a person's token was used cannot be noted");
            }
        }
        Ok(person)
    }

    /// All tokens, newest first.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub async fn list(&self, now: Timestamp) -> Result<Vec<TokenRecord>, Refused> {
        let rows = sqlx::query(
            "SELECT id, kind, subject, hash, created_at, expires_at, spent_at, spent_by, used_at, revoked_at \
             FROM tokens ORDER BY created_at DESC, id",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| stored(row, now).map(|s| s.record))
            .collect()
    }

    /// Takes a token back. Agents that joined with it stay: their certificates are short-lived.
    ///
    /// # Errors
    /// If the ledger cannot be written.
    pub async fn revoke(&self, id: &str, now: Timestamp) -> Result<Revoked, Refused> {
        let revoked = sqlx::query(
            "UPDATE tokens SET revoked_at = $1 WHERE id = $2 AND spent_at IS NULL AND revoked_at IS NULL \
             AND expires_at > $1",
        )
        .bind(time(now))
        .bind(id)
        .execute(&self.pool)
        .await?;
        if revoked.rows_affected() == 1 {
            return Ok(Revoked::Now);
        }
        Ok(match self.find(id, now).await? {
            Some(stored) => Revoked::Before(stored.record.state),
            None => Revoked::Unknown,
        })
    }

    async fn find(&self, id: &str, now: Timestamp) -> Result<Option<Stored>, Refused> {
        let row = sqlx::query(
            "SELECT id, kind, subject, hash, created_at, expires_at, spent_at, spent_by, used_at, revoked_at \
             FROM tokens WHERE id = $1",
        )
        .bind(id)
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| stored(&row, now)).transpose()
    }
}

fn stored(row: &SqliteRow, now: Timestamp) -> Result<Stored, Refused> {
    let damaged = |what: &str| Refused::Ledger(format!("a token's {what} is damaged"));
    let at = |column: &str| -> Result<Option<Timestamp>, Refused> {
        let text: Option<String> = row.try_get(column)?;
        text.map(|text| text.parse().map_err(|_| damaged(column)))
            .transpose()
    };
    let expires = at("expires_at")?.ok_or_else(|| damaged("expires_at"))?;
    let subject: String = row.try_get("subject")?;
    let state = match (at("revoked_at")?, at("spent_at")?) {
        (_, Some(at)) => State::Spent {
            at,
            by: row.try_get::<Option<String>, _>("spent_by")?.unwrap_or_default(),
        },
        (Some(at), None) => State::Revoked { at },
        (None, None) if expires <= now => State::Expired,
        (None, None) => State::Open,
    };
    let record = TokenRecord {
        id: row.try_get("id")?,
        purpose: match row.try_get::<String, _>("kind")?.as_str() {
            "agent" => Purpose::Join(ZoneName::new(subject).map_err(|_| damaged("zone"))?),
            "viewer" => Purpose::Read(subject),
            "operator" => Purpose::Operate(subject),
            _ => return Err(damaged("kind")),
        },
        state,
        created: at("created_at")?.ok_or_else(|| damaged("created_at"))?,
        expires,
        used: at("used_at")?,
    };
    let hash = blake3::Hash::from_hex(row.try_get::<String, _>("hash")?).map_err(|_| damaged("hash"))?;
    Ok(Stored { record, hash })
}

fn end(now: Timestamp, life: Duration) -> Result<Timestamp, Refused> {
    now.checked_add(life)
        .map_err(|_| Refused::Ledger("a token cannot live that long".to_owned()))
}

/// The secret is long and random, so a plain keyed hash is enough: there is nothing to guess.
fn hash(secret: &str) -> blake3::Hash {
    blake3::Hash::from_bytes(blake3::derive_key(HASHING, secret.as_bytes()))
}

/// A fresh id: 32 hex digits, of which no two are alike.
///
/// # Errors
/// The system has no randomness to give.
pub(crate) fn fresh_id() -> Result<String, Refused> {
    let mut id = [0; 16];
    aws_lc_rs::rand::fill(&mut id)
        .map_err(|_| Refused::Ledger("the system has no randomness to give".to_owned()))?;
    Ok(id.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A fresh id and secret.
fn draw() -> Result<(String, String), Refused> {
    const DIGITS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let fill = |bytes: &mut [u8]| {
        aws_lc_rs::rand::fill(bytes)
            .map_err(|_| Refused::Ledger("the system has no randomness to give".to_owned()))
    };
    let mut id = [0; 4];
    fill(&mut id)?;
    let id = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut secret = String::with_capacity(SECRET);
    while secret.len() < SECRET {
        let mut bytes = [0; SECRET];
        fill(&mut bytes)?;
        // 252 = 7 * 36: above it the first digits would come more often.
        let even = bytes.iter().filter(|byte| **byte < 252);
        secret.extend(even.map(|byte| char::from(DIGITS[usize::from(byte % 36)])));
    }
    secret.truncate(SECRET);
    Ok((id, secret))
}
