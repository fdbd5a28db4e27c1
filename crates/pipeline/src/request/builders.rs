//! Setters by the names of fields, which take the struct over and give it back: new fields of a struct that is `non_exhaustive` break
//! no caller.

/// Declares the setters of a struct: `name: Type` sets the field, `name: Type => Some` the value in an `Option`.
macro_rules! builders {
    ($type:ident { $($field:ident: $value:ty $(=> $some:path)?,)* }) => {
        impl $type {$(
            #[doc = concat!("Sets the field `", stringify!($field), "`.")]
            #[must_use]
            pub fn $field(mut self, $field: impl Into<$value>) -> Self {
                self.$field = $($some)? ($field.into());
                self
            }
        )*}
    };
}
pub(crate) use builders;
