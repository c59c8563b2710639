//! The storefront and the administration, as people use them in a browser: `tests/browser/shop.mjs` and `admin.mjs`, part by part.

use crate::support::{Shop, Topology, browse};

/// Customers who buy need a shop that knows who they are. The tests sign in from one address, more often than people do.
const SHOP: [(&str, &str); 4] = [
    ("APP__AUTH__MODE", "enforced"),
    ("APP__AUTH__REFRESH_INTERVAL", "100ms"),
    ("APP__USER__LOGINS_PER_ADDRESS", "0"),
    ("APP__GATEWAY__ROUTES__AUTH__LIMITS", ""),
];

/// Runs a part of `script` against a shop of its own, with an admin. Some end the process of a role.
async fn part(script: &str, topology: Topology, part: &str) {
    let shop = Shop::start_with(topology, &SHOP);
    let (email, password) = shop.admin_account();
    let victim = match part {
        "orders_away" => "order",
        "accounts_away" => "user",
        "away" => "product",
        _ => "gateway",
    };
    let victim = shop.process(victim).id().to_string();
    let gateway = &shop.process("gateway").urls["gateway"];
    browse(script, &[&camel(part), gateway, &email, &password, &victim]).await;
}

/// `name` as scripts write it, as in `ordersAway`.
fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| name + &word[..1].to_uppercase() + &word[1..])
}

macro_rules! parts {
    ($script:literal, $topology:ident: $($part:ident),+ $(,)?) => {
        $(
            #[actix_rt::test]
            async fn $part() {
                part($script, Topology::$topology, stringify!($part)).await;
            }
        )+
    };
}

mod shop_in_one_process {
    use super::*;

    parts!("shop.mjs", OneProcess: buys, keyboard, markup, accessible, german, back, search, declined, short, stripe, slow, lost,
        limited, offline, speechless, scriptless, live, late, hidden, ended, interrupted, tabs, account, remembers, recommends, changed, pictures,
        another, filtered, unheard, renewal, plain, blocked, unsent, dearer, between, more, refused, skewed);
}

mod shop_in_four_processes {
    use super::*;

    parts!("shop.mjs", OneProcessARole: buys, away, orders_away, accounts_away, ended, tabs);
}

mod admin_in_one_process {
    use super::*;

    parts!("admin.mjs", OneProcess: edits, imports, refunds, users, webhooks, letters, keyboard, markup, accessible, stranger, ended,
        broken, leaving, others);
}

mod admin_in_four_processes {
    use super::*;

    parts!("admin.mjs", OneProcessARole: edits, imports, refunds);
}

#[actix_rt::test]
async fn every_language_says_everything() {
    browse("texts.mjs", &[]).await;
}
