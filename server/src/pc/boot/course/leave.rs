//! Leaving a PC: what is taken back, and in what condition it is left.

use std::time::Duration;

use amt_wsman::flow::boot::disarm;
use amt_wsman::flow::consent;
use anyhow::Context;

use super::{Arrived, Course};
use crate::pc::boot::explained;

impl Course<'_> {
    /// Takes back what has to be taken back and says how the PC is left. Never fails: what cannot be done is told.
    pub(in crate::pc::boot) async fn leave(&mut self, arrived: Option<Arrived>) -> Vec<String> {
        let mut said = Vec::new();
        if self.armed && matches!(arrived, None | Some(Arrived::Served)) {
            match self.disarm().await {
                Ok(()) => said.push("no boot option is forced: the PC's next start is a plain one".to_owned()),
                Err(error) => said.push(format!(
                    "the boot options could not be cleared ({error:#}), so the PC's next start may still be forced; \
                     clear them with: sparetire pc bios {} --clear",
                    self.args.pc.host
                )),
            }
        }
        if let Some(drive) = self.drive.take() {
            drive.end();
            // It ends by itself, within its own deadlines, when nobody waits any longer.
            let _ = tokio::time::timeout(LEAVE_PATIENCE, drive.ended()).await;
        }
        if self.asked && arrived.is_none() {
            // A code left on the screen would keep the next console waiting. It goes by itself in some minutes.
            let mut device = self.reach.device();
            let mut observer = |_| ();
            let cancelled = consent::cancel(&mut device, &mut observer);
            let _ = tokio::time::timeout(LEAVE_PATIENCE, cancelled).await;
        }
        if let Some(site) = self.site.take() {
            if arrived.is_none()
                && let Some(id) = &self.session
                && let Err(error) = site.client.cancel(id).await
            {
                said.push(format!("session {id} could not be cancelled: {error:#}"));
            }
            site.close().await;
        }
        if arrived.is_none() {
            said.push(self.condition().to_owned());
        }
        said
    }

    /// Whether the PC has read from the drive.
    pub(in crate::pc::boot) fn was_read(&self) -> bool {
        self.drive
            .as_ref()
            .is_some_and(|drive| drive.statistics().reads > 0)
    }

    /// The last word: the table of times, and how the PC was left.
    pub(in crate::pc::boot) fn tell(
        &mut self,
        outcome: &str,
        said: &[String],
    ) -> anyhow::Result<()> {
        self.live.outcome(outcome, self.session.as_deref(), said)
    }

    async fn disarm(&self) -> anyhow::Result<()> {
        let mut device = self.reach.device();
        let done = tokio::time::timeout(LEAVE_PATIENCE * 3, disarm(&mut device, &mut |_| ())).await;
        done.context("the PC does not answer")?.map_err(explained)
    }

    /// What the PC is doing now that it is left alone.
    fn condition(&self) -> &'static str {
        match (self.restarted, self.live.loader_reports()) {
            (false, _) => "the PC was not restarted: it runs on, or stays off, as before",
            (true, false) => {
                "the PC was restarted; what it had begun to read from the redirected drive ends there, and a restart \
                 brings its own system back"
            }
            (true, true) => {
                "stage one runs on the PC and shows what it misses; nothing on its disks was changed, and a restart \
                 brings its own system back"
            }
        }
    }
}

/// How long each farewell may take.
const LEAVE_PATIENCE: Duration = Duration::from_secs(5);
