//! Redirection: the switches (`AMT_RedirectionService`) and who holds which session.

use std::collections::VecDeque;

/// What a redirection session carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionKind {
    /// Serial over LAN.
    Sol,
    /// Redirected drives.
    Ider,
    /// Screen, keyboard and mouse.
    Kvm,
}

impl SessionKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Sol, Self::Ider, Self::Kvm];
}

/// Why a session does not start: the status byte of StartRedirectionSessionReply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StartStatus {
    /// The kind does not exist.
    #[error("session type unknown")]
    UnknownType = 1,
    /// Another console holds the session of this kind.
    #[error("session busy")]
    Busy = 2,
    /// Switched off, by `EnabledState` or by the BIOS.
    #[error("session type unsupported")]
    Unsupported = 3,
    /// The user has to agree first.
    #[error("user consent required")]
    ConsentRequired = 5,
    /// Anything else.
    #[error("internal error")]
    Internal = 0xff,
}

impl StartStatus {
    /// The byte on the wire.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// An open session. There is one of each kind at most; the number tells a session from its predecessors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionTicket {
    pub(super) kind: SessionKind,
    pub(super) number: u64,
}

impl SessionTicket {
    /// What it carries.
    pub fn kind(self) -> SessionKind {
        self.kind
    }
}

/// What the firmware tells an open session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEvent {
    /// End it: `TerminateSession`, a switch turned off, or consent that is over.
    Terminate,
    /// The host is being reset or powered up: drives registered "on reboot" become visible now.
    HostReset,
}

/// The switches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switches {
    /// IDE-R is on.
    pub ider: bool,
    /// SOL is on.
    pub sol: bool,
    /// KVM is on (`CIM_KVMRedirectionSAP`).
    pub kvm: bool,
    /// The redirection port accepts connections (`ListenerEnabled`).
    pub listener: bool,
}

impl Switches {
    /// `EnabledState`.
    pub fn enabled_state(&self) -> u32 {
        32768 + u32::from(self.ider) + 2 * u32::from(self.sol)
    }
}

/// Switches that the BIOS set-up keeps off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BiosVeto {
    /// SOL and IDE-R.
    pub redirection: bool,
    /// KVM.
    pub kvm: bool,
}

#[derive(Debug)]
struct Open {
    ticket: SessionTicket,
    peer: String,
    events: VecDeque<SessionEvent>,
}

/// Most events that wait for a session which does not fetch them; the oldest go first.
const MAX_EVENTS: usize = 16;

#[derive(Debug)]
pub(super) struct Redirection {
    pub(super) switches: Switches,
    pub(super) veto: BiosVeto,
    open: Vec<Open>,
    next: u64,
    attached: bool,
}

impl Redirection {
    pub(super) fn new(switches: Switches, veto: BiosVeto) -> Self {
        let mut this = Self {
            switches,
            veto,
            open: Vec::new(),
            next: 1,
            attached: false,
        };
        this.apply_veto();
        this
    }

    /// Takes new switches; those that the BIOS vetoes do not stick.
    pub(super) fn switch(&mut self, switches: Switches) {
        self.switches = switches;
        self.apply_veto();
        for kind in SessionKind::ALL {
            if !self.on(kind) {
                self.notify(Some(kind), SessionEvent::Terminate);
            }
        }
    }

    fn apply_veto(&mut self) {
        if self.veto.redirection {
            self.switches.ider = false;
            self.switches.sol = false;
        }
        self.switches.kvm &= !self.veto.kvm;
    }

    pub(super) fn on(&self, kind: SessionKind) -> bool {
        match kind {
            SessionKind::Sol => self.switches.sol,
            SessionKind::Ider => self.switches.ider,
            SessionKind::Kvm => self.switches.kvm,
        }
    }

    /// Whether the redirection port accepts connections.
    pub(super) fn listening(&self) -> bool {
        let any = self.switches.enabled_state() != 32768 || self.switches.kvm;
        self.switches.listener && any
    }

    pub(super) fn begin(
        &mut self,
        kind: SessionKind,
        peer: &str,
    ) -> Result<SessionTicket, StartStatus> {
        if !self.listening() || !self.on(kind) {
            return Err(StartStatus::Unsupported);
        }
        if self.has(kind) {
            return Err(StartStatus::Busy);
        }
        let ticket = SessionTicket {
            kind,
            number: self.next,
        };
        self.next = self.next.checked_add(1).ok_or(StartStatus::Internal)?;
        self.open.push(Open {
            ticket,
            peer: peer.into(),
            events: VecDeque::new(),
        });
        Ok(ticket)
    }

    /// Forgets a session; `false` when it was over already.
    pub(super) fn end(&mut self, ticket: SessionTicket) -> bool {
        let before = self.open.len();
        self.open.retain(|open| open.ticket != ticket);
        let ended = self.open.len() != before;
        if ended && ticket.kind == SessionKind::Ider {
            self.attached = false;
        }
        ended
    }

    pub(super) fn event(&mut self, ticket: SessionTicket) -> Option<SessionEvent> {
        self.open
            .iter_mut()
            .find(|open| open.ticket == ticket)?
            .events
            .pop_front()
    }

    /// Tells the session of one kind, or all.
    pub(super) fn notify(&mut self, kind: Option<SessionKind>, event: SessionEvent) {
        for open in &mut self.open {
            if kind.is_none_or(|kind| kind == open.ticket.kind) {
                if open.events.len() == MAX_EVENTS {
                    open.events.pop_front();
                }
                open.events.push_back(event);
            }
        }
    }

    pub(super) fn has(&self, kind: SessionKind) -> bool {
        self.open.iter().any(|open| open.ticket.kind == kind)
    }

    pub(super) fn any(&self) -> bool {
        !self.open.is_empty()
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = (SessionKind, &str)> {
        self.open
            .iter()
            .map(|open| (open.ticket.kind, open.peer.as_str()))
    }

    pub(super) fn set_attached(&mut self, attached: bool) {
        self.attached = attached && self.has(SessionKind::Ider);
    }

    pub(super) fn attached(&self) -> bool {
        self.attached
    }
}
