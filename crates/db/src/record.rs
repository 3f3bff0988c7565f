//! A struct that is a row of a table.

use crate::error::Error;
use crate::row::Row;
use crate::value::{Kind, Value};

/// A row of a table, as [`crate::record!`] declares it.
pub trait Record: Sized + Send + 'static {
    const TABLE: &'static str;
    const COLUMNS: &'static [&'static str];
    /// What each column holds, and whether it may be NULL. Paging sorts and converts by it.
    const KINDS: &'static [(Kind, bool)];

    /// Reads a row whose first columns are [`Record::COLUMNS`], in that order.
    fn from_row(row: &Row) -> Result<Self, Error>;

    /// One value per column, in the order of [`Record::COLUMNS`].
    fn values(&self) -> Vec<Value>;
}

/// Declares a struct that is kept in a table; each field is a column of the same name.
///
/// ```
/// db::record! {
///     /// A key a user may have placed in servers.
///     pub struct Keypair in "keypairs" {
///         pub user_id: String,
///         pub name: String,
///         pub r#type: String,
///         pub fingerprint: Option<String>,
///     }
/// }
/// assert_eq!(<Keypair as db::Record>::COLUMNS, ["user_id", "name", "type", "fingerprint"]);
/// ```
#[macro_export]
macro_rules! record {
    (
        $(#[$meta:meta])*
        $visible:vis struct $name:ident in $table:literal {
            $( $(#[$field_meta:meta])* $field_visible:vis $field:ident : $type:ty ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        $visible struct $name {
            $( $(#[$field_meta])* $field_visible $field: $type, )*
        }

        impl $crate::Record for $name {
            const TABLE: &'static str = $table;
            const COLUMNS: &'static [&'static str] = &[ $( $crate::column_name(stringify!($field)), )* ];
            const KINDS: &'static [($crate::Kind, bool)] =
                &[ $( (<$type as $crate::Column>::KIND, <$type as $crate::Column>::NULLABLE), )* ];

            fn from_row(row: &$crate::Row) -> ::std::result::Result<Self, $crate::Error> {
                let mut next = 0_usize;
                Ok(Self { $( $field: { next += 1; row.get::<$type>(next - 1)? }, )* })
            }

            fn values(&self) -> ::std::vec::Vec<$crate::Value> {
                ::std::vec![ $( $crate::Bind::to_value(&self.$field), )* ]
            }
        }
    };
}

/// The column of a field: its name without the `r#` that keywords need.
pub const fn column_name(field: &'static str) -> &'static str {
    match field.as_bytes() {
        [b'r', b'#', ..] => field.split_at(2).1,
        _ => field,
    }
}
