//! Intel AMT's management side over a network: reaching a PC, credentials, and WS-Management over HTTP.
//!
//! What is said is the crate `amt-wsman`'s business; here it is carried.

pub mod credentials;
pub mod dial;
pub mod http;

use amt_wsman::Device;
use amt_wsman::digest::Credentials;

use self::dial::{Endpoint, Tcp};
use self::http::{HttpTransport, Timing};

/// A PC reached over TCP.
pub type Pc = Device<HttpTransport<Tcp>>;

/// The PC at an endpoint. Nothing is sent yet.
#[must_use]
pub fn open(endpoint: &Endpoint, credentials: Credentials) -> Pc {
    let timing = Timing::default();
    let dial = Tcp::new(endpoint, timing.connect);
    Device::new(HttpTransport::new(dial, credentials, timing))
}
