//! The methods that both services have.

/// Declares the methods of a kind's service by its messages, `field` and `id` being what they call
/// the receiver and its id. `with hints` says that the answers to creations and updates hint.
macro_rules! handlers {
    ($kind:ident as $field:ident, $id:ident $(with $hints:ident)? {
        create $create:ident($create_request:ident as $method:literal) -> $created:ident;
        get $get:ident($get_request:ident) -> $got:ident;
        update $update:ident($update_request:ident) -> $updated:ident;
        delete $delete:ident($delete_request:ident) -> $deleted:ident;
        $($to:ident $move:ident($move_request:ident$(.$note:ident)?) -> $moved:ident;)*
    }) => {
        impl crate::Control {
            pub(crate) async fn $create(
                &self,
                request: v1::$create_request,
                caller: &Caller,
            ) -> Result<v1::$created, Refusal> {
                let creation = crate::receiver::Creation {
                    method: $method,
                    parent: &request.parent,
                    id: &request.$id,
                    given: request.$field.as_ref(),
                    secrets: &request.secrets,
                    validate_only: request.validate_only,
                    request_id: &request.request_id,
                };
                self.create_receiver::<$kind, _>(&request, creation, caller).await
            }

            pub(crate) async fn $get(
                &self,
                request: v1::$get_request,
            ) -> Result<v1::$got, Refusal> {
                let found = self.get_receiver::<$kind>(&request.name).await?;
                Ok(v1::$got { $field: Some(found) })
            }

            pub(crate) async fn $update(
                &self,
                request: v1::$update_request,
                caller: &Caller,
            ) -> Result<v1::$updated, Refusal> {
                let update = crate::receiver::Update {
                    given: request.$field.as_ref(),
                    mask: request.update_mask.as_ref(),
                    allow_missing: request.allow_missing,
                    validate_only: request.validate_only,
                    caller,
                };
                self.update_receiver::<$kind, _>(update).await
            }

            pub(crate) async fn $delete(
                &self,
                request: v1::$delete_request,
            ) -> Result<v1::$deleted, Refusal> {
                let deletion = crate::receiver::Deletion {
                    name: &request.name,
                    etag: &request.etag,
                    allow_missing: request.allow_missing,
                    validate_only: request.validate_only,
                };
                self.delete_receiver::<$kind, _>(deletion).await
            }

            $(
                pub(crate) async fn $move(
                    &self,
                    request: v1::$move_request,
                    caller: &Caller,
                ) -> Result<v1::$moved, Refusal> {
                    let moving = crate::receiver::Moving {
                        name: &request.name,
                        to: crate::receiver::Move::$to,
                        note: [$(request.$note.as_str(),)? ""][0],
                        validate_only: request.validate_only,
                        caller,
                    };
                    self.move_receiver::<$kind, _>(moving).await
                }
            )*
        }

        crate::receiver::shows! {
            $kind as $field: $created $($hints)?; $updated $($hints)?; $($moved;)*
        }
    };
}
pub(crate) use handlers;

/// Says of answers where they show a receiver of a kind, and hints.
macro_rules! shows {
    ($kind:ident as $field:ident: $($answer:ident $($hints:ident)?;)*) => {$(
        impl crate::receiver::Shows<$kind> for v1::$answer {
            fn of(shown: v1::$kind, _hints: Vec<String>) -> Self {
                Self { $field: Some(shown), $($hints: _hints,)? ..Default::default() }
            }

            fn clear_name(&mut self) {
                self.$field.iter_mut().for_each(|shown| shown.name.clear());
            }
        }
    )*};
}
pub(crate) use shows;
