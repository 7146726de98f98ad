//! How ids and words are kept in columns.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use uuid::Uuid;

use crate::model::clock::Millis;
use crate::model::id::{ClaimId, MailId, Nonce};
use crate::model::mail::{DeliveryState, FromKind, Priority, When};
use crate::model::name::Name;
use crate::model::token::TokenHash;

/// A column that holds something of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Col<T>(pub T);

fn uuid(value: ValueRef<'_>) -> FromSqlResult<Uuid> {
    Uuid::from_slice(value.as_blob()?).map_err(|_| FromSqlError::InvalidType)
}

macro_rules! column {
    ($type:ty, $write:expr, $read:expr) => {
        impl ToSql for Col<$type> {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                let write: fn(&$type) -> ToSqlOutput<'_> = $write;
                Ok(write(&self.0))
            }
        }
        impl FromSql for Col<$type> {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                let read: fn(ValueRef<'_>) -> FromSqlResult<$type> = $read;
                read(value).map(Col)
            }
        }
    };
}

column!(MailId, |id| ToSqlOutput::from(id.0.as_bytes().to_vec()), |value| uuid(value).map(MailId));
column!(ClaimId, |id| ToSqlOutput::from(id.0.as_bytes().to_vec()), |value| uuid(value).map(ClaimId));
column!(Nonce, |id| ToSqlOutput::from(id.0.to_be_bytes().to_vec()), |value| {
    let bytes = value.as_blob()?.try_into().map_err(|_| FromSqlError::InvalidType)?;
    Ok(Nonce(u128::from_be_bytes(bytes)))
});
column!(TokenHash, |hash| ToSqlOutput::from(hash.0.to_vec()), |value| {
    value.as_blob()?.try_into().map(TokenHash).map_err(|_| FromSqlError::InvalidType)
});
column!(Millis, |at| ToSqlOutput::from(at.0), |value| value.as_i64().map(Millis));
column!(Name, |name| ToSqlOutput::from(name.as_str()), |value| {
    Name::parse(value.as_str()?).ok_or(FromSqlError::InvalidType)
});
column!(DeliveryState, |state| ToSqlOutput::from(state.as_str()), |value| {
    DeliveryState::parse(value.as_str()?).ok_or(FromSqlError::InvalidType)
});
column!(Priority, |priority| ToSqlOutput::from(priority.as_str()), |value| {
    Priority::parse(value.as_str()?).ok_or(FromSqlError::InvalidType)
});
column!(When, |when| ToSqlOutput::from(when.as_str()), |value| {
    When::parse(value.as_str()?).ok_or(FromSqlError::InvalidType)
});
column!(FromKind, |kind| ToSqlOutput::from(kind.as_str()), |value| {
    FromKind::parse(value.as_str()?).ok_or(FromSqlError::InvalidType)
});
