//! Choices that standards allow and no public trace settles. Defaults are what real PCs are known to accept, or the standard
//! where it carries no risk.

/// How a drive answers where there is a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behaviour {
    /// The first command after a medium came in is answered 06/28/00. No console has ever put a unit attention on this wire.
    pub unit_attention_on_insert: bool,
    /// The first command after a reset is answered 06/29/00.
    pub unit_attention_on_reset: bool,
    /// GET EVENT STATUS NOTIFICATION gets the eight bytes of MMC-5 where they fit, instead of the four bytes "no event".
    pub eight_byte_event_status: bool,
    /// READ TOC names the number of blocks as lead-out. Consoles named block 0 and 00:52:19 for every disc.
    pub true_lead_out: bool,
    /// MODE SENSE(10) for a page that is not served is answered 05/24/00 as SPC-3 wants, instead of 05/20/00.
    pub standard_absent_page: bool,
    /// READ DISC INFORMATION is served, not refused with 05/20/00.
    pub disc_information: bool,
    /// READ CD is served where it asks for user data alone, not refused with 05/20/00.
    pub read_cd: bool,
    /// An eject empties the drive until the host loads again. Otherwise it succeeds and changes nothing.
    pub honour_eject: bool,
    /// A write to a protected medium is refused after its data was taken, as consoles do, instead of at once.
    pub drain_refused_writes: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            unit_attention_on_insert: false,
            unit_attention_on_reset: false,
            eight_byte_event_status: false,
            true_lead_out: true,
            standard_absent_page: false,
            disc_information: false,
            read_cd: false,
            honour_eject: false,
            drain_refused_writes: false,
        }
    }
}
