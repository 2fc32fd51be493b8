//! A relay between a driver and its API server that can go deaf, as a network does that forgets connections without
//! telling anybody: what is open stays open and says nothing any more, what is new works.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The relay; it goes when it is dropped.
#[derive(Debug)]
pub struct Relay {
    /// Where it listens.
    pub address: SocketAddr,
    /// Connections of an older epoch are deaf.
    epoch: watch::Sender<u64>,
    _tasks: JoinSet<()>,
}

impl Relay {
    /// Listens on loopback and passes everything on to this port of 127.0.0.1.
    ///
    /// # Errors
    /// If nothing can be listened on.
    pub async fn start(to: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (epoch, seen) = watch::channel(0);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((from, _)) = listener.accept().await {
                let Ok(there) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await else {
                    // Whoever connected sees what it would see without a relay: an end.
                    continue;
                };
                let born = *seen.borrow();
                let (from_read, from_write) = from.into_split();
                let (there_read, there_write) = there.into_split();
                open.spawn(pass(from_read, there_write, born, seen.clone()));
                open.spawn(pass(there_read, from_write, born, seen.clone()));
                while open.try_join_next().is_some() {}
            }
        });
        Ok(Self {
            address,
            epoch,
            _tasks: tasks,
        })
    }

    /// Makes everything that is open deaf, for ever.
    pub fn forget(&self) {
        self.epoch.send_modify(|epoch| *epoch += 1);
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, born: u64, epoch: watch::Receiver<u64>) {
    let mut buffer = vec![0; 16 * 1024];
    // The end of either side is the end of both.
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if *epoch.borrow() != born {
            std::future::pending::<()>().await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    if *epoch.borrow() != born {
        std::future::pending::<()>().await;
    }
}
