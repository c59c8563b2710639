//! The tables, as the migrations leave them.

diesel::table! {
    order_orders (id) {
        id -> Text,
        user_id -> Text,
        status -> Text,
        items -> Text,
        total -> BigInt,
        currency -> Text,
        ship_to -> Nullable<Text>,
        contact -> Nullable<Text>,
        created_at -> Timestamp,
        day -> Text,
        expires_at -> Timestamp,
        paid_at -> Nullable<Timestamp>,
        version -> BigInt,
        reservation -> BigInt,
        attempts -> BigInt,
        intent -> Nullable<Text>,
        method -> Nullable<Text>,
        pending -> Nullable<Text>,
        pending_at -> Nullable<Timestamp>,
        restock -> Bool,
    }
}

diesel::table! {
    order_keys (user_id, key) {
        user_id -> Text,
        key -> Text,
        fingerprint -> Text,
        order_id -> Text,
        claimed_until -> Timestamp,
        status -> Nullable<BigInt>,
        problem -> Nullable<Text>,
        created_at -> Timestamp,
    }
}

diesel::table! {
    order_sandbox (intent) {
        intent -> Text,
        amount -> BigInt,
        currency -> Text,
        state -> Text,
        charges -> BigInt,
        refunds -> BigInt,
        last_key -> Nullable<Text>,
        declined -> Nullable<Text>,
        created_at -> Timestamp,
    }
}

diesel::table! {
    order_webhooks (id) {
        id -> Text,
        url -> Text,
        events -> Nullable<Text>,
        description -> Nullable<Text>,
        secret -> Text,
        old_secret -> Nullable<Text>,
        old_until -> Nullable<Timestamp>,
        enabled -> Bool,
        created_at -> Timestamp,
        failing_since -> Nullable<Timestamp>,
    }
}

diesel::table! {
    order_deliveries (webhook_id, event_id) {
        webhook_id -> Text,
        event_id -> Text,
        kind -> Text,
        subject -> Text,
        sequence -> BigInt,
        event -> Text,
        status -> Text,
        attempts -> BigInt,
        due_at -> Timestamp,
        http_status -> Nullable<BigInt>,
        error -> Nullable<Text>,
        created_at -> Timestamp,
        finished_at -> Nullable<Timestamp>,
    }
}
