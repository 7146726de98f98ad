//! Look-ups for `resolve`: the rows that a request names, in the lap's open transaction.

use rusqlite::types::ToSql;
use rusqlite::{OptionalExtension, Row, params};

use super::sql::Col;
use super::{Store, StoreError};
use crate::core::input::{Known, KnownDelivery, Lookup, PastApproval};
use crate::core::record::DeliveryId;
use crate::model::id::{self, MailId};
use crate::model::mail::Mail;
use crate::model::name::Name;

impl Store {
    /// Finds the mail that a reference (a whole id, a unique prefix, or at least the last six digits) leads to; the body of
    /// what is found is left empty.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn lookup(&self, reference: &str) -> Result<Lookup, StoreError> {
        let Some(digits) = id::mail_reference(reference) else { return Ok(Lookup::Missing) };
        let mut found = self.ids_by_prefix(&digits)?;
        if found.is_empty() && digits.len() >= id::SUFFIX_DIGITS_MIN {
            found = self.ids_by_suffix(&digits)?;
        }
        Ok(match found.as_slice() {
            [] => Lookup::Missing,
            [one] => match self.known(*one)? {
                Some(mut known) => {
                    known.mail.body = String::new();
                    Lookup::Found(Box::new(known))
                }
                None => Lookup::Missing,
            },
            _ => Lookup::Ambiguous(found),
        })
    }

    /// Finds the mail of a sender with an idempotency key, with its body.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn keyed(&self, sender: &Name, key: &str) -> Result<Option<Box<Known>>, StoreError> {
        let mut by_key = self.db.prepare_cached("SELECT id FROM mails WHERE sender = ?1 AND key = ?2")?;
        let id =
            by_key.query_row(params![sender.as_str(), key], |row| row.get::<_, Col<MailId>>(0)).optional()?;
        Ok(match id {
            Some(id) => self.known(id.0)?.map(Box::new),
            None => None,
        })
    }

    /// Loads the mails of some deliveries, with their bodies, in the given order.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn mails_of(&self, deliveries: &[DeliveryId]) -> Result<Vec<Mail>, StoreError> {
        let mut by_delivery = self
            .db
            .prepare_cached("SELECT m.* FROM deliveries d JOIN mails m ON m.id = d.mail WHERE d.id = ?1")?;
        let load = |id: &DeliveryId| by_delivery.query_row([id.0], mail).map_err(StoreError::from);
        deliveries.iter().map(load).collect()
    }

    fn known(&self, id: MailId) -> Result<Option<Known>, StoreError> {
        let mut by_id = self.db.prepare_cached("SELECT * FROM mails WHERE id = ?1")?;
        let Some(mail) = by_id.query_row([Col(id)], mail).optional()? else { return Ok(None) };
        let mut deliveries = self.db.prepare_cached(
            "SELECT recipient, state, note, turn, id FROM deliveries WHERE mail = ?1 ORDER BY id",
        )?;
        let delivery = |row: &Row<'_>| {
            Ok(KnownDelivery {
                to: row.get::<_, Col<Name>>(0)?.0,
                state: row.get::<_, Col<_>>(1)?.0,
                reason: row.get(2)?,
                turn: row.get(3)?,
                id: DeliveryId(row.get(4)?),
            })
        };
        let deliveries = deliveries.query_map([Col(id)], delivery)?.collect::<Result<_, _>>()?;
        // What somebody wrote to others about it is no answer to its sender.
        let mut answer = self.db.prepare_cached(
            "SELECT min(m.id) FROM mails m JOIN deliveries d ON d.mail = m.id
             WHERE m.reply_to = ?1 AND m.sender <> ?2 AND d.recipient = ?2",
        )?;
        let answered_by = answer
            .query_row(params![Col(id), mail.from.as_str()], |row| row.get::<_, Option<Col<MailId>>>(0))?
            .map(|id| id.0);
        let bytes = mail.body.len() as u32;
        Ok(Some(Known { mail, bytes, deliveries, answered_by }))
    }

    /// Approvals that were settled and whose id begins so, the last ones first.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn settled_approvals(&self, reference: &str) -> Result<Vec<PastApproval>, StoreError> {
        let is_reference = reference.len() >= id::APPROVAL_DIGITS_MIN
            && reference.bytes().all(|c| c.is_ascii_hexdigit() && !c.is_ascii_uppercase());
        if !is_reference {
            return Ok(Vec::new());
        }
        let mut by_id = self.db.prepare_cached(
            "SELECT id, decision, coalesce(settled_by, 'elsewhere'), reason, settled_at FROM approvals
             WHERE id >= ?1 AND id < ?1 || 'g' AND settled_at IS NOT NULL ORDER BY settled_at DESC LIMIT 5",
        )?;
        let past = |row: &Row<'_>| {
            Ok(PastApproval {
                id: row.get(0)?,
                decision: row.get(1)?,
                by: row.get(2)?,
                reason: row.get(3)?,
                at: row.get::<_, Col<_>>(4)?.0,
            })
        };
        by_id.query_map([reference], past)?.collect::<Result<_, _>>().map_err(StoreError::from)
    }

    fn ids_by_prefix(&self, digits: &str) -> Result<Vec<MailId>, StoreError> {
        let bound = |fill: &str| -> Vec<u8> {
            let padded = format!("{digits}{}", fill.repeat(32 - digits.len()));
            (0..16).map(|i| u8::from_str_radix(&padded[2 * i..2 * i + 2], 16).unwrap_or(0)).collect()
        };
        self.ids("SELECT id FROM mails WHERE id BETWEEN ?1 AND ?2 LIMIT 5", &[&bound("0"), &bound("f")])
    }

    fn ids_by_suffix(&self, digits: &str) -> Result<Vec<MailId>, StoreError> {
        let pattern = format!("%{}", digits.to_ascii_uppercase());
        self.ids("SELECT id FROM mails WHERE hex(id) LIKE ?1 LIMIT 5", &[&pattern])
    }

    fn ids(&self, sql: &str, params: &[&dyn ToSql]) -> Result<Vec<MailId>, StoreError> {
        let mut statement = self.db.prepare_cached(sql)?;
        let ids = statement.query_map(params, |row| row.get::<_, Col<MailId>>(0).map(|id| id.0))?;
        ids.collect::<Result<_, _>>().map_err(StoreError::from)
    }
}

/// Reads a whole row of `mails`.
pub(super) fn mail(row: &Row<'_>) -> rusqlite::Result<Mail> {
    let to: String = row.get("recipients")?;
    Ok(Mail {
        id: row.get::<_, Col<_>>("id")?.0,
        from: row.get::<_, Col<_>>("sender")?.0,
        from_kind: row.get::<_, Col<_>>("sender_kind")?.0,
        to: to.split(' ').filter_map(Name::parse).collect(),
        subject: row.get("subject")?,
        body: row.get("body")?,
        reply_to: row.get::<_, Option<Col<_>>>("reply_to")?.map(|id| id.0),
        thread: row.get::<_, Col<_>>("thread")?.0,
        priority: row.get::<_, Col<_>>("priority")?.0,
        when: row.get::<_, Option<Col<_>>>("at_when")?.map(|when| when.0),
        hops: row.get("hops")?,
        key: row.get("key")?,
        expires_at: row.get::<_, Option<Col<_>>>("expires_at")?.map(|at| at.0),
        sent_at: row.get::<_, Col<_>>("sent_at")?.0,
        tag: row.get("tag")?,
    })
}
