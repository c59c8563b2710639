//! The tables, as the migrations leave them.

diesel::table! {
    users (id) {
        id -> Text,
        username -> Text,
        email -> Text,
        email_key -> Text,
        created_at -> Timestamp,
        password_hash -> Nullable<Text>,
        roles -> Text,
        disabled -> Bool,
        generation -> BigInt,
    }
}

diesel::table! {
    sessions (id) {
        id -> Text,
        user_id -> Text,
        family -> Text,
        token_hash -> Text,
        created_at -> Timestamp,
        used_at -> Timestamp,
        expires_at -> Timestamp,
    }
}

diesel::table! {
    revocations (user_id) {
        user_id -> Text,
        generation -> BigInt,
        created_at -> Timestamp,
    }
}

diesel::table! {
    recent_orders (order_id) {
        order_id -> Text,
        user_id -> Text,
        sequence -> BigInt,
        status -> Text,
        total -> BigInt,
        currency -> Text,
        created_at -> Timestamp,
        products -> Text,
    }
}

diesel::allow_tables_to_appear_in_same_query!(users, sessions, revocations, recent_orders);
