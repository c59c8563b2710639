//! Names of calls to stores.

use std::fmt;

/// The name of a call whose future or closure has the type of this name: the module at the crate's top and the function, as
/// in `order.insert`.
#[derive(Clone, Copy, Debug)]
pub struct Statement(pub &'static str);

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (module, function) = operation(self.0);
        write!(f, "{module}.{function}")
    }
}

fn operation(kind: &str) -> (&str, &str) {
    let mut function = kind;
    while let Some(outer) = function.strip_suffix("::{{closure}}") {
        function = outer;
    }
    let module = kind.split_once("app::").map_or("", |(_, path)| path);
    let module = module.split("::").next().unwrap_or_default();
    // The last part, before its own parameters: `<` and `>` also enclose types in the middle of a path.
    let mut depth = 0_i32;
    let last = function.rfind(|letter| {
        match letter {
            '>' => depth += 1,
            '<' => depth -= 1,
            _ => {}
        }
        depth == 0 && letter == ':'
    });
    let name = last.map_or(function, |at| &function[at + 1..]);
    let name = name.split('<').next().unwrap_or_default();
    (module, name)
}

#[cfg(test)]
mod tests {
    use std::any::type_name_of_val;

    use super::*;

    struct Store;

    impl Store {
        fn insert<T>(&self) -> impl Future<Output = T> + use<T> {
            async { std::future::pending().await }
        }
    }

    #[test]
    fn a_call_is_named_by_its_module_and_its_function() {
        for (kind, name) in [
            (
                "app::order::store::orders::<impl app::order::store::Store>::insert::{{closure}}::{{closure}}",
                "order.insert",
            ),
            (
                "<app::user::store::Store as app::storage::copy::Rows>::count::{{closure}}",
                "user.count",
            ),
            (
                "app::product::store::Store::page::{{closure}}::{{closure}}::{{closure}}",
                "product.page",
            ),
            ("app::product::store::write::run<alloc::vec::Vec<u8>>::{{closure}}", "product.run"),
        ] {
            assert_eq!(Statement(kind).to_string(), name);
        }
        let kind = type_name_of_val(&Store.insert::<Vec<u8>>());
        assert_eq!(Statement(kind).to_string(), "telemetry.insert");
    }
}
