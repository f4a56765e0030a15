//! Two network namespaces and the link between them.
//!
//! A link without delay and loss is a veth pair with the kernel's token bucket. The others
//! go through `link.rs`, since kernels without `sch_netem` have nothing that delays or loses
//! packets.

use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, bail};
use vm_tests::host;

use crate::link::{self, Shape, Tunnel};

/// The server's address.
pub(crate) const SERVER: &str = "10.213.0.1";
/// The client's address.
const CLIENT: &str = "10.213.0.2";
/// Ethernet's own bytes around a packet: preamble, header, check sequence, gap.
pub(crate) const FRAMING: u64 = 38;
/// Payload of a full TCP segment with time stamps, and the packet around it.
const SEGMENT: (u64, u64) = (1448, 1500);

/// A namespace for the server, one for clients, and the link. Gone when dropped.
#[derive(Debug)]
pub(crate) struct Network {
    server: String,
    client: String,
}

/// Most payload bytes per second that TCP carries over a link of `rate` bits per second.
pub(crate) fn goodput(rate: u64) -> f64 {
    rate as f64 / 8.0 * SEGMENT.0 as f64 / (SEGMENT.1 + FRAMING) as f64
}

impl Network {
    /// Makes both namespaces, and a link of that shape from server to client; what goes back
    /// is delayed but neither lost nor slowed down, as on a line that has room that way.
    ///
    /// # Errors
    ///
    /// When this is not allowed, or the kernel lacks something.
    pub(crate) fn new(shape: &Shape, congestion: &str) -> Result<Self> {
        let id = std::process::id();
        let network = Self {
            server: format!("sparetire-s{id}"),
            client: format!("sparetire-c{id}"),
        };
        for name in [&network.server, &network.client] {
            host::capture(Command::new("ip").args(["netns", "add", name]))
                .context("making a network namespace, which takes root")?;
            network.ip(name, "link set lo up")?;
        }
        let [to_server, to_client] = [format!("spt-s{id}"), format!("spt-c{id}")];
        if shape.needs_tunnel() {
            network.tunnel(shape, [&to_server, &to_client])?;
        } else {
            network.veth(shape, [&to_server, &to_client])?;
        }
        for (name, device, address, other) in [
            (&network.server, &to_server, SERVER, CLIENT),
            (&network.client, &to_client, CLIENT, SERVER),
        ] {
            network.ip(
                name,
                &format!("address add {address} peer {other} dev {device}"),
            )?;
            network.ip(name, &format!("link set {device} up"))?;
            // What one program's connections taught the kernel is no help to the next.
            let memory = "net.ipv4.tcp_no_metrics_save=1";
            host::capture(within(name, "sysctl").args(["-qw", memory]))
                .context("making TCP forget")?;
            let control = format!("net.ipv4.tcp_congestion_control={congestion}");
            host::capture(within(name, "sysctl").args(["-qw", &control])).with_context(|| {
                format!(
                    "choosing {congestion}, which the machine has to know and allow: \
                     sysctl -w net.ipv4.tcp_allowed_congestion_control=\"reno {congestion}\"",
                )
            })?;
        }
        Ok(network)
    }

    fn veth(&self, shape: &Shape, [to_server, to_client]: [&str; 2]) -> Result<()> {
        let line = format!(
            "link add {to_server} netns {} type veth peer name {to_client} netns {}",
            self.server, self.client
        );
        host::capture(Command::new("ip").args(line.split(' '))).context("making a veth pair")?;
        // The bucket counts 14 of the 38 bytes that Ethernet adds.
        let packet = SEGMENT.1;
        let rate = shape.rate * (packet + 14) / (packet + FRAMING);
        let mut tc = within(&self.server, "tc");
        tc.args(["qdisc", "add", "dev", to_server, "root", "tbf", "rate"]);
        tc.arg(format!("{rate}bit"));
        tc.args(["burst", "128kb", "limit", &format!("{}b", shape.queue)]);
        host::capture(&mut tc).context("limiting the link's rate (kernel: NET_SCH_TBF)")?;
        Ok(())
    }

    fn tunnel(&self, shape: &Shape, [to_server, to_client]: [&str; 2]) -> Result<()> {
        let server = Tunnel::new(to_server)?;
        let client = Tunnel::new(to_client)?;
        for (device, name) in [(to_server, &self.server), (to_client, &self.client)] {
            host::capture(Command::new("ip").args(["link", "set", device, "netns", name]))
                .context("moving a tunnel into its namespace")?;
        }
        link::join(server, client, shape)
    }

    fn ip(&self, name: &str, line: &str) -> Result<()> {
        host::capture(Command::new("ip").args(["-n", name]).args(line.split(' ')))
            .context("setting up the link")
            .map(drop)
    }

    /// `program`, to be run where clients are.
    pub(crate) fn at_client(&self, program: impl AsRef<Path>) -> Command {
        within(&self.client, program)
    }

    /// `program`, to be run where the server is.
    pub(crate) fn at_server(&self, program: impl AsRef<Path>) -> Command {
        within(&self.server, program)
    }

    /// Cuts every connection at the server: its socket is gone, and the client gets a reset.
    ///
    /// # Errors
    ///
    /// When `ss` fails; not when there was no connection.
    pub(crate) fn cut(&self) -> Result<()> {
        let mut ss = self.at_server("ss");
        ss.args(["-K", "-H", "-t", "state", "established"]);
        let cut = host::capture(&mut ss).context("cutting connections (kernel: INET_DIAG_DESTROY)");
        cut.map(drop)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in [&self.server, &self.client] {
            // Fails only where making it failed. Links go with their namespace.
            let _ = host::capture(Command::new("ip").args(["netns", "del", name]));
        }
    }
}

fn within(namespace: &str, program: impl AsRef<Path>) -> Command {
    let mut command = Command::new("ip");
    command
        .args(["netns", "exec", namespace])
        .arg(program.as_ref());
    command
}

/// Runs `command` with `network`'s connections cut every `interval` until it ends.
///
/// # Errors
///
/// When cutting fails; what `run` returns otherwise.
pub(crate) fn with_cuts<T>(
    network: &Network,
    interval: Option<std::time::Duration>,
    run: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let Some(interval) = interval else {
        return run();
    };
    thread::scope(|scope| {
        let (done, over) = std::sync::mpsc::channel::<()>();
        let cutter = scope.spawn(move || -> Result<()> {
            // Ends when the other end is dropped.
            while over.recv_timeout(interval) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                network.cut()?;
            }
            Ok(())
        });
        let result = run();
        drop(done);
        match cutter.join() {
            Ok(cut) => cut?,
            Err(_) => bail!("the cutting thread died"),
        }
        result
    })
}
