//! The two ways into the PC during a boot: WS-Management and redirection, with the same credentials, asked for once.

use std::sync::Arc;

use amt_wsman::digest::Credentials;

use crate::amt::dial::Endpoint;
use crate::amt::{self, Pc};
use crate::pc::PcArgs;
use crate::redirection::connect::{self, Dial};

/// How the PC is reached.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    pub(crate) endpoint: Endpoint,
    redirection_port: u16,
    credentials: Credentials,
}

impl Reach {
    /// Takes host and credentials from the command line; may ask for a password.
    pub(crate) fn of(args: &PcArgs) -> anyhow::Result<Self> {
        Ok(Self {
            endpoint: args.endpoint()?,
            redirection_port: args.redirection_port,
            credentials: args.credentials.get(&args.host)?,
        })
    }

    /// A device; nothing is sent yet.
    pub(crate) fn device(&self) -> Pc {
        amt::open(&self.endpoint, self.credentials.clone())
    }

    /// The way to the redirection port.
    pub(crate) fn redirection(&self) -> (Arc<dyn Dial>, connect::Credentials) {
        let dial = connect::Tcp {
            host: self.endpoint.host.clone(),
            port: self.redirection_port,
        };
        let credentials = connect::Credentials {
            user: self.credentials.user().to_owned(),
            password: self.credentials.password().clone(),
        };
        (Arc::new(dial), credentials)
    }
}
