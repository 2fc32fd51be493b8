//! The commands for when coordinator and Git are gone or wrong: `pin`, `unpin`, `pins`. They write one file beside the agent,
//! whether it runs or not; an agent that runs looks at it every second.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use jiff::Timestamp;
use weir_model::{FederationName, RouteName, SplitName};
use weir_planner::{Generation, ZonePlan};

use crate::command::{At, driver};
use crate::config::Config;
use crate::pin::{self, By, Pinned, Pins, Weights};
use crate::status;
use crate::store::Store;
use crate::take::Memory;

/// A reason longer than this is a report.
const REASON: usize = 300;
/// How long the control plane may take to say whether anybody else pinned the split. Whoever pins is in a hurry.
const LOOK: Duration = Duration::from_secs(5);

/// What `pin` is told.
#[derive(Debug, Args)]
pub(crate) struct Pin {
    #[command(flatten)]
    at: At,
    /// The split
    #[arg(long)]
    split: SplitName,
    /// Per cent for each backend, 100 in all: vm=80,eks=20. Backends that are not named get 0
    #[arg(long, value_parser = pin::weights, required_unless_present = "generation")]
    weights: Option<Weights>,
    /// The route; without it the default one, which takes what no other matches
    #[arg(long, conflicts_with = "generation")]
    route: Option<RouteName>,
    /// What all routes had here when the plan had this generation; `weir-agent pins --split SPLIT` lists what is kept
    #[arg(long, value_name = "N", conflicts_with = "weights")]
    generation: Option<u64>,
    /// Why, for those who find it pinned
    #[arg(long, value_parser = reason)]
    reason: String,
}

/// What `unpin` is told.
#[derive(Debug, Args)]
pub(crate) struct Unpin {
    #[command(flatten)]
    at: At,
    /// The split
    #[arg(long)]
    split: SplitName,
    /// Take the pin of another agent of this zone for ended, by the name that `weir-agent status` gives: only if its host is
    /// gone for good
    #[arg(long, value_name = "PIN")]
    gone: Option<String>,
}

/// What `pins` is told.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    at: At,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// List what this split had here lately, the newest first: `pin --generation` goes back to one of them
    #[arg(long)]
    split: Option<SplitName>,
}

fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("say why: whoever finds it pinned has to know".to_owned());
    }
    if text.len() > REASON || text.chars().any(char::is_control) {
        return Err(format!("one line of at most {REASON} bytes"));
    }
    Ok(text.to_owned())
}

/// The file of pins, with nobody else at it.
struct Held {
    store: Store,
    plan: Option<ZonePlan>,
    memory: Memory,
    pins: Pins,
    _lock: File,
}

impl Held {
    fn take(config: &Config) -> anyhow::Result<Self> {
        let lock = config.data.join("pins.lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock)
            .with_context(|| {
                format!(
                    "the data directory {} cannot be used; run this as the user that owns it, or as root",
                    config.data.display()
                )
            })?;
        let dir = fs::metadata(&config.data)?;
        if file.metadata()?.uid() != dir.uid() {
            std::os::unix::fs::fchown(&file, Some(dir.uid()), Some(dir.gid()))?;
        }
        if file.try_lock().is_err() {
            bail!(
                "another `weir-agent pin` or `unpin` is at work here: look at `weir-agent pins`, then try again"
            );
        }
        let store = Store::new(&config.data);
        let (memory, pins) = known(&store)?;
        // Without it a pin can be ended all the same.
        let plan = match store.peek_plan() {
            Ok(plan) => plan,
            Err(error) => {
                writeln!(io::stderr(), "warning: {error}")?;
                None
            }
        };
        if let Some(other) = plan.as_ref().filter(|plan| plan.zone != config.zone) {
            bail!(
                "the plan here is for zone {}, the configuration for {}",
                other.zone,
                config.zone
            );
        }
        Ok(Self {
            store,
            plan,
            memory,
            pins,
            _lock: file,
        })
    }

    fn keep(&self) -> anyhow::Result<()> {
        self.store
            .keep_pins(&self.pins)
            .context("the file of pins cannot be written, and nothing changed")
    }
}

/// The memory, and the pins in force: those of the file, or, told on stderr, those that were last good. With neither, a pin
/// could be lost unseen by writing anew.
fn known(store: &Store) -> anyhow::Result<(Memory, Pins)> {
    let memory = store.peek_memory();
    let last = memory
        .as_ref()
        .map(|memory| memory.pins.clone())
        .unwrap_or_default();
    let pins = pin::read(store.pins().map_err(|error| error.to_string()), &last);
    match (memory, pins) {
        (Ok(memory), Ok(pins)) => Ok((memory, pins)),
        (Ok(memory), Err(why)) => {
            writeln!(io::stderr(), "warning: {why}")?;
            Ok((memory, last))
        }
        (Err(error), Ok(pins)) => {
            writeln!(io::stderr(), "warning: {error}")?;
            Ok((Memory::default(), pins))
        }
        (Err(error), Err(why)) => bail!(
            "{error}; and {why}. What is pinned here is not known: look at `weir-agent status`; to begin anew, move pins.json \
             away, restart the agent, and pin again"
        ),
    }
}

/// Whether an agent runs that will take it, as the end of what is told.
async fn follows(config: &Config) -> &'static str {
    match status::ask(&config.status_socket()).await {
        Ok(_) => "The agent follows within a second, if its backends resolve: `weir-agent status` shows it.",
        Err(_) => "No agent answers here: it follows when it runs.",
    }
}

/// What the zone's control plane says against a pin. Nothing, if it cannot be asked: then the agent finds out.
async fn objection(
    config: &Config,
    held: &Held,
    federation: &FederationName,
    pinned: &Pinned,
) -> anyhow::Result<Option<String>> {
    let pins = &held.pins;
    let driver =
        driver(config, federation).map_err(|error| anyhow::anyhow!("{error}\nhelp: {}", error.help))?;
    let items = [std::sync::Arc::clone(&pinned.item)];
    let looked = tokio::time::timeout(LOOK, driver.observe(&pinned.item.mesh, &items)).await;
    let observed = match looked {
        Ok(Ok(observed)) => observed,
        Ok(Err(error)) => {
            let what =
                "whether the backends resolve, and whether another agent pinned this split, is not known";
            writeln!(
                io::stderr(),
                "warning: the control plane cannot be read ({error}): {what}"
            )?;
            return Ok(None);
        }
        Err(_) => {
            writeln!(
                io::stderr(),
                "warning: the control plane did not answer in time: it is pinned unseen"
            )?;
            return Ok(None);
        }
    };
    Ok(pins.objection(pinned, &held.memory, &observed))
}

impl Pin {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let config = Config::load(&self.at.config)?;
        let mut held = Held::take(&config)?;
        let Some(plan) = &held.plan else {
            bail!(
                "no plan is held in {}: there is nothing to pin yet",
                config.data.display()
            );
        };
        let by = By {
            agent: config.agent.clone(),
            who: user(),
            host: host(&config),
            reason: self.reason,
            at: Timestamp::now(),
        };
        let federation = plan.federation.clone();
        let (pins, memory, split) = (&mut held.pins, &held.memory, &self.split);
        let pinned = match (self.generation, &self.weights) {
            (Some(generation), _) => pins.pin_to(plan, memory, split, Generation(generation), by)?,
            (None, Some(weights)) => pins.pin(plan, memory, split, self.route.as_ref(), weights, by)?,
            (None, None) => bail!("say --weights or --generation"),
        }
        .clone();
        if let Some(why) = objection(&config, &held, &federation, &pinned).await? {
            bail!("not pinned, nothing changed: {why}");
        }
        held.keep()?;
        let mut out = io::stdout();
        writeln!(out, "split {} is pinned on this host:", self.split)?;
        for (route, weights) in &pinned.pin.weights {
            writeln!(out, "  {route}: {}", pin::shares(weights))?;
        }
        if let Some(once) = self
            .generation
            .and_then(|n| held.memory.past.at(&self.split, Generation(n)))
        {
            let age = status::age(Timestamp::now(), once.at);
            writeln!(
                out,
                "as it had them from generation {}, applied {age} ago",
                once.generation
            )?;
            let routes = pinned.item.routes.iter();
            for route in routes.filter(|route| !once.weights.contains_key(&route.name)) {
                writeln!(
                    out,
                    "  {}: stays as it is, there was no such route then",
                    route.name
                )?;
            }
        }
        writeln!(
            out,
            "It holds until `weir-agent unpin --split {}`, whatever plan comes. {}",
            self.split,
            follows(&config).await
        )?;
        Ok(())
    }
}

impl Unpin {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let config = Config::load(&self.at.config)?;
        let mut held = Held::take(&config)?;
        if let Some(label) = self.gone {
            if held
                .pins
                .of(&self.split)
                .is_some_and(|pinned| pinned.label == label)
            {
                bail!("that pin is of this host: leave out --gone");
            }
            held.pins.end(&self.split, label.clone());
            held.keep()?;
            writeln!(
                io::stdout(),
                "the pin {label} of split {} is taken for ended here. Should its host come back, it has to be ended there as \
                 well: until then the two agents write over each other.",
                self.split
            )?;
            return Ok(());
        }
        if held.pins.unpin(&self.split).is_none() {
            bail!(
                "split {} is not pinned on this host; `weir-agent pins` lists what is, and `weir-agent status` shows what \
                 another agent of the zone pinned",
                self.split
            );
        }
        held.keep()?;
        let back = held.plan.as_ref().and_then(|plan| plan.items.get(&self.split));
        let to = match (back, &held.plan) {
            (Some(item), Some(plan)) => format!(
                "it follows plan {} again, which has it at generation {}",
                plan.generation, item.generation
            ),
            (None, Some(plan)) => format!("plan {} does not have it: it is taken away", plan.generation),
            (_, None) => "it follows the next plan".to_owned(),
        };
        writeln!(
            io::stdout(),
            "split {} is not pinned any more: {to}. {}",
            self.split,
            follows(&config).await
        )?;
        Ok(())
    }
}

impl List {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let config = Config::load(&self.at.config)?;
        let store = Store::new(&config.data);
        let (memory, pins) = known(&store)?;
        let mut out = io::stdout();
        if let Some(split) = &self.split {
            return listed(&memory, split, self.json);
        }
        if self.json {
            let all: Vec<_> = pins
                .in_force()
                .map(|(split, pinned)| serde_json::json!({ "split": split, "label": pinned.label, "pin": pinned.pin }))
                .collect();
            writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
            return Ok(());
        }
        if pins.in_force().next().is_none() {
            writeln!(out, "nothing is pinned on this host")?;
        }
        for (split, pinned) in pins.in_force() {
            let pin = &pinned.pin;
            writeln!(
                out,
                "split {split}, pinned for {} by {} on {}, at generation {}: {}",
                status::age(Timestamp::now(), pin.since),
                pin.who,
                pin.host,
                pinned.of.generation,
                pin.reason
            )?;
            for (route, weights) in &pin.weights {
                writeln!(out, "  {route}: {}", pin::shares(weights))?;
            }
        }
        Ok(())
    }
}

/// What a split had here lately.
fn listed(memory: &Memory, split: &SplitName, json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout();
    let past = memory.past.of(split);
    if json {
        let newest: Vec<_> = past.iter().rev().collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&newest)?)?;
        return Ok(());
    }
    if past.is_empty() {
        writeln!(out, "nothing is known here of what split {split} had")?;
    }
    for once in past.iter().rev() {
        let age = status::age(Timestamp::now(), once.at);
        writeln!(out, "generation {}, applied {age} ago", once.generation)?;
        for (route, weights) in &once.weights {
            writeln!(out, "  {route}: {}", pin::shares(weights))?;
        }
    }
    Ok(())
}

/// The user who runs this, by the system's word and not by the environment's, but for who became root by sudo.
fn user() -> String {
    let uid = fs::metadata("/proc/self").map(|meta| meta.uid());
    let name = |uid: u32| {
        let users = fs::read_to_string("/etc/passwd").ok()?;
        let mut lines = users.lines().map(|line| line.split(':'));
        lines.find_map(|mut fields| {
            let name = fields.next()?;
            (fields.nth(1)? == uid.to_string()).then(|| name.to_owned())
        })
    };
    let told = match uid {
        Ok(uid) => name(uid).unwrap_or_else(|| format!("uid {uid}")),
        Err(_) => "unknown".to_owned(),
    };
    match std::env::var("SUDO_USER") {
        Ok(behind) if told == "root" && !behind.is_empty() && !behind.chars().any(char::is_control) => {
            format!("{behind} (as root)")
        }
        _ => told,
    }
}

/// This host's name, or the agent's where there is none.
fn host(config: &Config) -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() {
        config.agent.to_string()
    } else {
        name.to_owned()
    }
}
