//! How the WS-MAN port may be made to misbehave, within what real firmware has been seen or is allowed to do.

/// Settings that may change while connections are open. The default is a healthy machine.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Knobs {
    /// Each Pull answers with one item at most, whatever the console asks for.
    pub one_item_pages: bool,
    /// The last item comes without EndOfSequence; one more, empty page follows.
    pub late_end: bool,
    /// In how many of a hundred requests the firmware has forgotten all its nonces.
    pub forget_nonce_percent: u8,
    /// For how long a nonce is good, in milliseconds of real time.
    pub nonce_lifetime_ms: u64,
    /// Challenges after a forgotten nonce say `stale="true"`. What real firmware says then is not known.
    pub says_stale: bool,
    /// Chunk borders of replies are drawn at random; otherwise a reply is one chunk.
    pub random_chunks: bool,
    /// Replies are cut off after so many bytes, and the connection with them.
    pub drop_reply_after: Option<u64>,
    /// How many more replies that happens to; absent: to all.
    pub drop_replies: Option<u32>,
    /// The connection drops instead of answering RequestPowerStateChange, which is done nevertheless.
    pub drop_after_power_change: bool,
    /// Each answer comes so many milliseconds late.
    pub delay_ms: u64,
    /// The same while the PC is not on; seconds have been seen in soft-off.
    pub delay_while_off_ms: u64,
    /// A request that comes while another one is being answered gets a QuotaLimit fault; otherwise it waits.
    pub refuse_concurrent: bool,
    /// The connection closes after each answer.
    pub close_after_answer: bool,
    /// Time without a request after which a connection closes, in milliseconds.
    pub idle_timeout_ms: u64,
    /// Time that a request may take to arrive, and an answer to leave, in milliseconds.
    pub transfer_timeout_ms: u64,
    /// Most connections at a time; further ones are closed at once.
    pub max_connections: u32,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            one_item_pages: false,
            late_end: false,
            forget_nonce_percent: 0,
            nonce_lifetime_ms: 300_000,
            says_stale: true,
            random_chunks: true,
            drop_reply_after: None,
            drop_replies: None,
            drop_after_power_change: false,
            delay_ms: 0,
            delay_while_off_ms: 0,
            refuse_concurrent: true,
            close_after_answer: false,
            idle_timeout_ms: 30_000,
            transfer_timeout_ms: 30_000,
            max_connections: 8,
        }
    }
}
