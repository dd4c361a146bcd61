//! Faults of the CDN, each with a count so that a test decides which request fails.

use std::collections::HashMap;

use hyper::StatusCode;

use super::{MediaStore, without_query};

/// Which requests a fault is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaOp {
    /// Uploads and the questions whether one can be resumed.
    Upload,
    /// Downloads, HEAD included.
    Download,
}

#[derive(Default)]
pub(super) struct MediaFaults {
    refusals: Vec<Refusal>,
    cuts: Vec<Cut>,
    bytes_per_second: Option<u64>,
    /// The same of single paths.
    slow: HashMap<String, u64>,
    /// The same of uploads.
    slow_uploads: Option<u64>,
}

struct Refusal {
    op: Option<MediaOp>,
    status: StatusCode,
    left: u32,
}

struct Cut {
    op: MediaOp,
    after: u64,
    left: u32,
}

impl MediaFaults {
    pub(super) fn refusal(&mut self, op: MediaOp) -> Option<StatusCode> {
        let at = self
            .refusals
            .iter()
            .position(|refusal| refusal.op.is_none_or(|only| only == op))?;
        let status = self.refusals[at].status;
        self.refusals[at].left -= 1;
        self.refusals.retain(|refusal| refusal.left > 0);
        Some(status)
    }

    /// How fast a download of this path is.
    pub(super) fn rate(&self, path: &str) -> Option<u64> {
        self.slow.get(path).copied().or(self.bytes_per_second)
    }

    pub(super) fn cut(&mut self, op: MediaOp) -> Option<u64> {
        let at = self.cuts.iter().position(|cut| cut.op == op)?;
        let after = self.cuts[at].after;
        self.cuts[at].left -= 1;
        self.cuts.retain(|cut| cut.left > 0);
        Some(after)
    }
}

impl MediaStore {
    /// Answers the next `times` requests, uploads and downloads alike, with `status`.
    pub fn refuse(&self, status: u16, times: u32) {
        self.add_refusal(None, status, times);
    }

    /// Answers the next `times` requests of one kind with `status`.
    pub fn refuse_only(&self, op: MediaOp, status: u16, times: u32) {
        self.add_refusal(Some(op), status, times);
    }

    fn add_refusal(&self, op: Option<MediaOp>, status: u16, times: u32) {
        if times > 0 {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
            self.state().faults.refusals.push(Refusal {
                op,
                status,
                left: times,
            });
        }
    }

    /// Cuts the connection of the next `times` requests of one kind once `after` bytes of the body have gone by.
    /// What an upload had sent by then can be resumed.
    pub fn cut(&self, op: MediaOp, after: u64, times: u32) {
        if times > 0 {
            self.state().faults.cuts.push(Cut {
                op,
                after,
                left: times,
            });
        }
    }

    /// How many requests are still to be cut.
    pub fn cuts_left(&self) -> u32 {
        self.state().faults.cuts.iter().map(|cut| cut.left).sum()
    }

    /// Slows every download down to this many bytes a second; `None` lets them go again.
    pub fn slow_down(&self, bytes_per_second: Option<u64>) {
        self.state().faults.bytes_per_second = bytes_per_second.filter(|rate| *rate > 0);
    }

    /// Slows the downloads of one path down.
    pub fn slow_down_one(&self, path: &str, bytes_per_second: u64) {
        let path = without_query(path).to_owned();
        self.state()
            .faults
            .slow
            .insert(path, bytes_per_second.max(1));
    }

    /// How fast an upload is.
    pub(super) fn upload_rate(&self) -> Option<u64> {
        self.state().faults.slow_uploads
    }

    /// Slows every upload down to this many bytes a second; `None` lets them go again, at once.
    pub fn slow_uploads(&self, bytes_per_second: Option<u64>) {
        self.state().faults.slow_uploads = bytes_per_second.filter(|rate| *rate > 0);
    }

    /// Takes every fault back. Expired blobs stay expired.
    pub fn clear_faults(&self) {
        self.state().faults = MediaFaults::default();
    }
}
