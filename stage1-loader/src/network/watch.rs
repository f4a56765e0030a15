//! Watches the interface in use while an image is fetched, because an address is only as good as the cable and the lease it
//! came with.

use std::path::Path;
use std::time::Duration;

use super::interfaces::{self, Interface};
use super::kernel::Kernel;
use super::{News, Up};
use crate::console::Console;
use crate::sequence::Step;
use crate::sys::{self, SysError};

/// Why the network has to be set up anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturbance {
    /// The cable was out. It may be in another socket now.
    Replugged,
    /// Most of the lease is over.
    LeaseEnds,
}

impl Disturbance {
    /// In plain words.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Replugged => "the link is back",
            Self::LeaseEnds => "the lease of the address ends soon",
        }
    }
}

/// What became of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Lost,
    Back,
}

/// The link as it was last seen.
#[derive(Debug)]
struct Link {
    up: bool,
}

impl Link {
    fn look(&mut self, up: bool) -> Option<Turn> {
        let turn = match (self.up, up) {
            (true, false) => Some(Turn::Lost),
            (false, true) => Some(Turn::Back),
            _ => None,
        };
        self.up = up;
        turn
    }
}

/// Waits until the network in use has to be set up anew. Says so when the link goes.
pub async fn disturbed(
    root: &Path,
    up: &Up,
    console: &Console,
    tell: &mut (dyn FnMut(News) + Send),
) -> Disturbance {
    let lease = async {
        match up.renew_at {
            Some(at) => tokio::time::sleep(at.saturating_sub(sys::uptime())).await,
            None => std::future::pending().await,
        }
        Disturbance::LeaseEnds
    };
    let link = async {
        match replugged(root, up, console, tell).await {
            Ok(()) => Disturbance::Replugged,
            // Without news of links the fetch itself finds out, only later.
            Err(error) => {
                console.status(Step::Network, &format!("links are not watched: {error}"));
                std::future::pending().await
            }
        }
    };
    tokio::select! {
        disturbance = link => disturbance,
        disturbance = lease => disturbance,
    }
}

async fn replugged(
    root: &Path,
    up: &Up,
    console: &Console,
    tell: &mut (dyn FnMut(News) + Send),
) -> Result<(), SysError> {
    let mut kernel = Kernel::open()?;
    let mut readiness = kernel.readiness()?;
    let mut link = Link { up: true };
    loop {
        // The socket listens already, so nothing can change unseen between this look and the wait.
        let interface = interfaces::by_name(root, &up.interface);
        let carrier = interface.as_ref().is_some_and(|found| found.carrier);
        match link.look(carrier) {
            Some(Turn::Lost) => report(up, interface, "no link; waiting for it", console, tell),
            Some(Turn::Back) => {
                report(up, interface, "link", console, tell);
                return Ok(());
            }
            None => {}
        }
        let mut ready = readiness
            .readable_mut()
            .await
            .map_err(|error| SysError::from_io("epoll_wait(rtnetlink)", &error))?;
        // What the news says in detail is looked up above.
        kernel.news()?;
        ready.clear_ready();
    }
}

fn report(
    up: &Up,
    interface: Option<Interface>,
    text: &str,
    console: &Console,
    tell: &mut (dyn FnMut(News) + Send),
) {
    console.status(Step::Network, &format!("{} {text}", up.interface));
    if let Some(interface) = interface {
        tell(News::Link { interface });
    }
}

/// When to ask for an address again, if its lease is good for `lease`: the rebinding time of RFC 2131, section 4.4.5. Asking
/// cuts all connections, so it comes as late as that, and no lease is so short that nothing gets done in between.
pub(super) fn renew_at(now: Duration, lease: Duration) -> Duration {
    now.saturating_add((lease.saturating_mul(7) / 8).max(SHORTEST))
}

/// A lease counts for as long at least, whatever the DHCP server says.
const SHORTEST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_goes_and_comes_back_is_seen_once_each() {
        let mut link = Link { up: true };
        let turns: Vec<Option<Turn>> = [true, false, false, true, true]
            .into_iter()
            .map(|up| link.look(up))
            .collect();
        assert_eq!(
            turns,
            [None, Some(Turn::Lost), None, Some(Turn::Back), None]
        );
    }

    #[test]
    fn a_lease_is_renewed_late_and_never_at_once() {
        let after = |lease| renew_at(Duration::from_secs(8), Duration::from_secs(lease)).as_secs();
        assert_eq!(after(800), 708);
        assert_eq!(after(1), 68);
        assert_eq!(after(0), 68);
        assert_eq!(renew_at(Duration::MAX, Duration::MAX), Duration::MAX);
    }
}
