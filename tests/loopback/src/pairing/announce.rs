//! Who hears of it when a device comes or goes.

use std::sync::Arc;

use wacore_binary::builder::NodeBuilder;

use super::adv;
use crate::{
    account::{Account, Device, Family},
    core::Core,
    sync::lock,
};

/// Tells the account's other devices, and everybody who has asked for its device list, that a device came or went.
pub fn notify_devices(core: &Core, account: &Arc<Account>, device: &Device, action: &'static str) {
    let (watchers, list, ts) = {
        let state = lock(&account.state);
        let watchers: Vec<String> = state.watchers.iter().cloned().collect();
        (
            watchers,
            adv::device_list(account, &state),
            state.devices_changed,
        )
    };
    let mut key_index_list = NodeBuilder::new("key-index-list").attr("ts", ts);
    if let (Some(list), "add") = (list, action) {
        key_index_list = key_index_list.bytes(list);
    }
    let changed = NodeBuilder::new("device")
        .attr("jid", account.device_jid(Family::Pn, device.id))
        .attr("key-index", device.key_index)
        .attr("lid", account.device_jid(Family::Lid, device.id))
        .build();
    let change = NodeBuilder::new(action)
        .children([changed, key_index_list.build()])
        .build();
    let build = |notification: NodeBuilder| {
        notification
            .attr("from", account.jid(Family::Pn))
            .attr("type", "devices")
            .attr("lid", account.jid(Family::Lid))
            .children([change.clone()])
            .build()
    };
    core.notify(account, Some((&account.phone, device.id)), build);
    for watcher in watchers {
        if watcher == account.phone {
            continue;
        }
        if let Some(watcher) = core.by_phone(&watcher) {
            core.notify(&watcher, None, build);
        }
    }
}
