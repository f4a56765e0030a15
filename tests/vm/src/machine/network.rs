//! What a virtual PC's network adapter is connected to.

use crate::firmware::Nic;

/// The adapter, as QEMU's monitor knows it.
pub const ADAPTER: &str = "adapter";
/// The filter of [`Network::HeldBack`].
pub(super) const HOLD: &str = "hold";
/// The two networks of [`Network::TwoLeases`].
pub const LEASES: [&str; 2] = ["first", "second"];
/// What each of them gives as address.
pub const LEASED: [&str; 2] = ["10.0.2.15", "10.0.2.77"];
/// Address that the network without a way out gives.
pub const DEAD_END: &str = "192.168.77.";

/// A network around the PC. Each has DHCP, and the host at [`HOST`](crate::site::HOST).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// One adapter on one network.
    #[default]
    Plain,
    /// The same, and the PC's SSH server can be reached from the host.
    Reachable,
    /// Before the adapter another one, whose network gives addresses and leads nowhere.
    DeadEndFirst,
    /// What is sent to the PC is held back until [`Running::let_through`](super::Running::let_through).
    HeldBack,
    /// Two networks at one socket, [`LEASES`], which differ in the address they give.
    TwoLeases,
}

impl Network {
    /// QEMU's options, in pairs.
    pub(super) fn options(self, nic: Nic) -> Vec<(&'static str, String)> {
        let mut list = Vec::new();
        // No option ROM: network boot of the firmware is no part of any test.
        let adapter = |id: &str, netdev: &str| {
            let value = format!("{},id={id},netdev={netdev},romfile=", nic.device());
            ("device", value)
        };
        match self {
            Self::Plain => list.push(("netdev", "user,id=net".to_owned())),
            // Port 0: any that is free, see `Running::forwarded`.
            Self::Reachable => {
                let forward = "user,id=net,hostfwd=tcp:127.0.0.1:0-:22";
                list.push(("netdev", forward.to_owned()));
            }
            Self::DeadEndFirst => {
                list.push((
                    "netdev",
                    format!("user,id=dead,restrict=on,net={DEAD_END}0/24"),
                ));
                list.push(adapter("before", "dead"));
                list.push(("netdev", "user,id=net".to_owned()));
            }
            Self::HeldBack => {
                list.push(("netdev", "user,id=net".to_owned()));
                // An hour, in microseconds: longer than any boot.
                let filter =
                    format!("filter-buffer,id={HOLD},netdev=net,queue=tx,interval=3600000000");
                list.push(("object", filter));
            }
            Self::TwoLeases => {
                for (name, address) in LEASES.iter().zip(LEASED) {
                    list.push(("netdev", format!("user,id={name},dhcpstart={address}")));
                    list.push((
                        "netdev",
                        format!("hubport,id={name}-port,hubid=1,netdev={name}"),
                    ));
                }
                list.push(("netdev", "hubport,id=net,hubid=1".to_owned()));
            }
        }
        list.push(adapter(ADAPTER, "net"));
        list
    }
}
