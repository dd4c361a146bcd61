//! The accounts that there are, by phone number and by LID.

use std::{collections::HashMap, sync::Arc};

use wacore_binary::{Jid, SERVER_JID, builder::NodeBuilder};

use crate::{
    account::{Account, AccountInfo, AccountSpec, Family, is_phone, made_up_phone},
    connection,
    core::Core,
    pairing::{PairError, notify_devices},
    sync::{lock, read, write},
    wire::node,
};

/// All accounts, findable by either name.
#[derive(Default)]
pub struct People {
    by_phone: HashMap<String, Arc<Account>>,
    by_lid: HashMap<String, Arc<Account>>,
    /// Phone numbers by their other forms.
    other_forms: HashMap<String, String>,
}

impl Core {
    /// Makes an account. If the phone number has one already, that one, unchanged.
    ///
    /// # Errors
    /// The number is not one, or there is no room.
    pub fn create_account(&self, spec: AccountSpec) -> Result<AccountInfo, PairError> {
        self.open_account(spec).map(|account| account.info())
    }

    pub(crate) fn open_account(&self, mut spec: AccountSpec) -> Result<Arc<Account>, PairError> {
        let asked = spec.phone.take();
        if asked.as_deref().is_some_and(|phone| !is_phone(phone))
            || spec.lid.as_deref().is_some_and(|lid| !is_phone(lid))
        {
            return Err(PairError::BadPhone);
        }
        let mut people = write(&self.people);
        if let Some(known) = asked.as_ref().and_then(|phone| people.by_phone.get(phone)) {
            return Ok(known.clone());
        }
        if people.by_phone.len() >= self.limits().accounts
            || spec
                .lid
                .as_ref()
                .is_some_and(|lid| people.by_lid.contains_key(lid))
        {
            return Err(PairError::Full);
        }
        let phone = asked.unwrap_or_else(|| {
            loop {
                let phone = made_up_phone();
                if !people.by_phone.contains_key(&phone) {
                    break phone;
                }
            }
        });
        for form in std::mem::take(&mut spec.other_forms) {
            people.other_forms.insert(form, phone.clone());
        }
        let account = Account::new(phone, spec).map_err(|error| {
            tracing::error!(%error, "no keys for an account");
            PairError::Full
        })?;
        let account = Arc::new(account);
        people
            .by_phone
            .insert(account.phone.clone(), account.clone());
        people.by_lid.insert(account.lid.clone(), account.clone());
        Ok(account)
    }

    pub(crate) fn by_phone(&self, phone: &str) -> Option<Arc<Account>> {
        read(&self.people).by_phone.get(phone).cloned()
    }

    /// The account of a phone number in any of its forms.
    pub(crate) fn by_number(&self, digits: &str) -> Option<Arc<Account>> {
        let people = read(&self.people);
        let phone = people
            .other_forms
            .get(digits)
            .map_or(digits, String::as_str);
        people.by_phone.get(phone).cloned()
    }

    /// Ends an account: its devices are logged out, and its number is free for somebody else.
    pub fn close_account(&self, phone: &str) -> bool {
        let Some(account) = self.by_phone(phone) else {
            return false;
        };
        for device in account.devices() {
            self.drop_device(&account, device.id, true);
        }
        let mut people = write(&self.people);
        people.by_phone.remove(phone);
        people.by_lid.remove(&account.lid);
        true
    }

    /// Lets the owner of an account take another number, on a new phone: the account goes on under that number and a new
    /// LID, its devices have to be linked again, and who wrote to it is told. `None` if there is no such account, or the
    /// new number is taken or none.
    pub fn change_number(&self, old: &str, new: &str) -> Option<AccountInfo> {
        let account = self.by_phone(old)?;
        if self.by_phone(new).is_some() {
            return None;
        }
        let (watchers, spec) = {
            let state = lock(&account.state);
            let spec = AccountSpec {
                phone: Some(new.to_owned()),
                push_name: Some(state.push_name.clone()),
                lid_migrated: state.lid_migrated,
                ..AccountSpec::default()
            };
            (state.watchers.clone(), spec)
        };
        let now = self.open_account(spec).ok()?;
        self.close_account(old);
        let modify = NodeBuilder::new("modify")
            .attr("old", account.jid(Family::Pn))
            .attr("new", now.jid(Family::Pn))
            .attr("old_lid", account.jid(Family::Lid))
            .attr("new_lid", now.jid(Family::Lid))
            .build();
        for watcher in watchers.iter().filter_map(|phone| self.by_phone(phone)) {
            self.notify(&watcher, None, |notification| {
                notification
                    .attr("from", SERVER_JID)
                    .attr("type", "contacts")
                    .children([modify.clone()])
                    .build()
            });
        }
        Some(now.info())
    }

    /// Sets whether nobody is told which LID belongs to the number.
    pub fn set_secretive(&self, phone: &str, secretive: bool) -> bool {
        let account = self.by_phone(phone);
        if let Some(account) = &account {
            lock(&account.state).secretive = secretive;
        }
        account.is_some()
    }

    pub(crate) fn by_name(&self, push_name: &str) -> Option<Arc<Account>> {
        let people = read(&self.people);
        let mut named: Vec<_> = people
            .by_phone
            .values()
            .filter(|account| account.push_name() == push_name)
            .collect();
        // Of several the lowest number, so that it is always the same.
        named.sort_by(|a, b| a.phone.cmp(&b.phone));
        named.first().map(|account| (*account).clone())
    }

    /// The account of a person's JID, in either namespace.
    pub(crate) fn by_jid(&self, jid: &Jid) -> Option<Arc<Account>> {
        let people = read(&self.people);
        match Family::of(jid)? {
            Family::Pn => people.by_phone.get(jid.user.as_str()).cloned(),
            Family::Lid => people.by_lid.get(jid.user.as_str()).cloned(),
        }
    }

    /// The account of a phone number.
    #[must_use]
    pub fn account(&self, phone: &str) -> Option<AccountInfo> {
        self.by_phone(phone).map(|account| account.info())
    }

    /// All accounts, by phone number.
    #[must_use]
    pub fn accounts(&self) -> Vec<AccountInfo> {
        let accounts: Vec<_> = read(&self.people).by_phone.values().cloned().collect();
        let mut infos: Vec<_> = accounts.iter().map(|account| account.info()).collect();
        infos.sort_by(|a, b| a.phone.cmp(&b.phone));
        infos
    }

    /// Logs a device out from the phone: it is told, and is no device of the account any more.
    pub fn logout_device(&self, phone: &str, device: u16) -> bool {
        let Some(account) = self.by_phone(phone) else {
            return false;
        };
        self.drop_device(&account, device, true)
    }

    /// Takes a device off the account without a word; its next login is refused.
    pub fn revoke_device(&self, phone: &str, device: u16) -> bool {
        let Some(account) = self.by_phone(phone) else {
            return false;
        };
        self.drop_device(&account, device, false)
    }

    pub(crate) fn drop_device(&self, account: &Arc<Account>, device: u16, say_so: bool) -> bool {
        let removed = {
            let mut state = lock(&account.state);
            let removed = state.devices.remove(&device);
            if removed.is_some() {
                state.devices_changed = crate::clock::unix().max(state.devices_changed + 1);
            }
            removed
        };
        let Some(removed) = removed else { return false };
        if let Some(link) = lock(&removed.mail).link.take() {
            if say_so {
                link.outbox
                    .push(node::encode(&connection::stream_error(401)));
                link.outbox.finish();
            } else {
                link.outbox.abort();
            }
        }
        notify_devices(self, account, &removed, "remove");
        true
    }
}
