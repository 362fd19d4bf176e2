//! WebDAV as a device sees it: who comes with the token of one gets the tree that its rules show.

use larder_api::{devices::Device, rules};
use larder_core::Result;
use larder_dav::DavService;
use larder_drive::{Drive, Placements};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Views kept for the next request; beyond it all are forgotten, which costs reading some rules.
const KEPT_MAX: usize = 256;

/// The views of devices, each for one version of its rules.
#[derive(Default)]
pub struct Views(Mutex<HashMap<String, (u64, DavService)>>);

impl Views {
    /// `all` as `device` sees it by the rules that it has now.
    ///
    /// # Errors
    /// Those of the catalog.
    pub fn of(&self, all: &DavService, drive: &Arc<Drive>, device: &Device) -> Result<DavService> {
        let ruled = rules::of(drive, &device.id)?;
        if ruled.version == 0 {
            return Ok(all.clone());
        }
        let mut kept = self.0.lock();
        if let Some((version, service)) = kept.get(&device.id)
            && *version == ruled.version
        {
            return Ok(service.clone());
        }
        let version = ruled.version;
        let service = all.over(drive.seen_through(Arc::new(Placements::fixed(ruled))));
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(device.id.clone(), (version, service.clone()));
        Ok(service)
    }
}
