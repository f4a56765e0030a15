//! What a failed redirection session means for whoever booted a PC, with its cure and exit code.

use amt_redirection::console::OpenError;
use anyhow::Error;
use sparetire_builder::exit::{ExitCode, coded};

use crate::failure::advise;
use crate::redirection::connect::ConnectError;
use crate::redirection::ider::{EndReason, Loss};
use crate::tcp::TcpError;

/// A redirected drive that is gone although it was needed.
pub(super) fn drive(reason: &EndReason) -> Error {
    let (code, advice) = match reason {
        EndReason::Failed(loss) | EndReason::GaveUp(loss) => cure(loss),
        EndReason::Asked | EndReason::Idle | EndReason::Panicked => (ExitCode::Failed, None),
    };
    let error = Error::new(reason.clone()).context("putting the image into the PC's drive");
    coded(
        code,
        match advice {
            Some(advice) => advise(error, advice),
            None => error,
        },
    )
}

fn cure(loss: &Loss) -> (ExitCode, Option<&'static str>) {
    match loss {
        Loss::Connect(error) => connection(error),
        Loss::AttachRefused(_) => (
            ExitCode::Refused,
            Some(
                "its BIOS may not allow storage redirection: look for IDE-R, USB-R or redirection there and in MEBx",
            ),
        ),
        Loss::Closed => (
            ExitCode::Refused,
            Some("another console may have ended the session; try again"),
        ),
        Loss::Protocol(_) => (
            ExitCode::Failed,
            Some(
                "check that address and port are AMT's; if they are, tell us what firmware this is",
            ),
        ),
        Loss::HungUp | Loss::Io(_) | Loss::Stalled(_) => (
            ExitCode::Unreachable,
            Some("check the way to the PC; its network may have gone away with its power state"),
        ),
    }
}

/// Exit code and cure for a redirection session that could not be opened, whatever it was for.
pub(crate) fn connection(error: &ConnectError) -> (ExitCode, Option<&'static str>) {
    match error {
        ConnectError::Open(open) => opening(open),
        ConnectError::Tcp(TcpError::Refused { .. }) => (
            ExitCode::Unreachable,
            Some(
                "its redirection port is closed although redirection is switched on: it may speak TLS only, or a firewall \
                 is in the way (port 16994)",
            ),
        ),
        ConnectError::Tcp(_) => (
            ExitCode::Unreachable,
            Some("port 16994 must pass from here to the PC, besides 16992"),
        ),
        ConnectError::Lost(_) | ConnectError::Closed => (
            ExitCode::Unreachable,
            Some(
                "try again; after wrong credentials the firmware may refuse everyone for some minutes",
            ),
        ),
        ConnectError::Random(_) => (ExitCode::Failed, None),
    }
}

fn opening(error: &OpenError) -> (ExitCode, Option<&'static str>) {
    let advice = match error {
        OpenError::Busy => {
            "another console holds this PC's redirection session: have it closed there, or end it from here with \
             `sparetire pc redirection HOST end`"
        }
        OpenError::UserConsentRequired => {
            "the user at the PC has to agree first: `pc boot --consent` asks for the code, `pc consent HOST start` gets it for \
             anything else"
        }
        OpenError::Unsupported | OpenError::UnknownType => {
            "switch redirection on in the PC's BIOS or MEBx (SOL/IDER, or storage redirection)"
        }
        OpenError::BadCredentials => {
            "the user needs the realm Redirection; after several wrong passwords AMT refuses right ones as well for some \
             minutes"
        }
        OpenError::NoCommonAuthentication { .. } => {
            "this firmware only takes passwords in clear text or Kerberos, which are not offered here"
        }
        OpenError::Internal => {
            "try again; if it stays, the PC may need its mains pulled for a minute"
        }
        OpenError::Timeout(_) => {
            return (
                ExitCode::Unreachable,
                Some("check that the port is AMT's, and try again"),
            );
        }
        OpenError::Protocol(_) => {
            return (
                ExitCode::Failed,
                Some("check that address and port are AMT's"),
            );
        }
    };
    let code = match error {
        OpenError::Internal => ExitCode::Failed,
        _ => ExitCode::Refused,
    };
    (code, Some(advice))
}
