//! The tables as Diesel sees them, kept by hand in line with `migrations/sqlite` and `migrations/mysql`.
//!
//! Identifiers are `Text` here: TEXT with SQLite's byte-wise collation there, VARBINARY in MySQL.
#![allow(missing_docs, reason = "the migrations describe the columns")]

diesel::table! { meta (name) { name -> Text, value -> Text, } }

diesel::table! { settings_epoch (id) { id -> Integer, epoch -> BigInt, } }

diesel::table! {
    offsets (topic, partition) {
        topic -> Text,
        partition -> Integer,
        epoch -> BigInt,
        version -> BigInt,
        next_offset -> BigInt,
        clock -> BigInt,
        settings_epoch -> BigInt,
        extra -> Binary,
    }
}

diesel::table! {
    settings_uses (topic, partition, settings_epoch) {
        topic -> Text,
        partition -> Integer,
        settings_epoch -> BigInt,
        first_offset -> BigInt,
        clock -> BigInt,
    }
}

diesel::table! {
    windows (partition, source) { partition -> Integer, source -> Text, state -> Binary, expires -> Nullable<BigInt>, }
}

diesel::table! {
    entities (topic, partition, plugin, scope, entity) {
        topic -> Text,
        partition -> Integer,
        plugin -> Text,
        scope -> Text,
        entity -> Text,
        state -> Binary,
        due -> Nullable<BigInt>,
        expires -> Nullable<BigInt>,
    }
}

diesel::table! { lanes (lane) { lane -> Text, next_seq -> BigInt, } }

diesel::table! {
    outbox (lane, seq) {
        lane -> Text,
        seq -> BigInt,
        record_count -> Integer,
        payload -> Binary,
    }
}

diesel::table! {
    http_calls (seq) {
        seq -> BigInt,
        id -> Text,
        effect -> Text,
        attempts -> Integer,
        next_attempt_at -> BigInt,
        error -> Nullable<Text>,
    }
}

diesel::table! {
    dead_letters (id) {
        id -> Text,
        at -> BigInt,
        status -> Text,
        reason -> Text,
        field -> Nullable<Text>,
        message -> Text,
        plugin -> Nullable<Text>,
        entity -> Nullable<Text>,
        topic -> Text,
        partition -> Integer,
        offset -> BigInt,
        clock -> BigInt,
        key -> Nullable<Binary>,
        bytes -> Binary,
        attempts -> Integer,
        replay_requested_at -> Nullable<BigInt>,
        headers -> Nullable<Binary>,
    }
}

diesel::table! {
    sessions (id) {
        id -> Text,
        employee_id -> Text,
        store_id -> Text,
        terminal_id -> Text,
        business_day -> Text,
        login_at -> BigInt,
        logout_at -> Nullable<BigInt>,
        seconds -> BigInt,
        paid_seconds -> BigInt,
        cause -> Nullable<Text>,
        flags -> Text,
    }
}

diesel::table! {
    alerts (id) {
        id -> Text,
        at -> BigInt,
        rule_id -> Text,
        severity -> Text,
        scope -> Text,
        entity -> Text,
        store_id -> Text,
        terminal_id -> Nullable<Text>,
        employee_id -> Nullable<Text>,
        shadow -> Bool,
        alert -> Text,
        positions -> Binary,
        evidence -> Nullable<Binary>,
        status -> Text,
        disposition -> Nullable<Text>,
        assignee -> Nullable<Text>,
        note -> Nullable<Text>,
    }
}

diesel::table! {
    recommendations (id) {
        id -> Text,
        basket_id -> Text,
        product_id -> Text,
        recommended -> Text,
        taken_up -> Bool,
        at -> BigInt,
    }
}

diesel::table! {
    age_prompts (id) {
        id -> Text,
        basket_id -> Text,
        store_id -> Text,
        terminal_id -> Text,
        employee_id -> Text,
        minimum_age -> Integer,
        outcome -> Text,
        at -> BigInt,
    }
}

diesel::table! {
    plugins (name) {
        name -> Text,
        active -> Bool,
        revision -> BigInt,
        eligibility -> Text,
        settings -> Text,
    }
}

diesel::table! { plugin_starts (plugin) { plugin -> Text, ends -> Text, } }

diesel::table! {
    external_plugins (name) {
        name -> Text,
        manifest -> Text,
        offset -> BigInt,
        while_off -> Text,
        skip_before -> BigInt,
    }
}

diesel::table! { refused_manifests (name) { name -> Text, why -> Text, } }

diesel::table! { documents (name) { name -> Text, revision -> BigInt, value -> Text, } }

diesel::table! {
    audit (id) {
        id -> BigInt,
        at -> BigInt,
        actor -> Text,
        action -> Text,
        subject -> Text,
        revision -> Nullable<BigInt>,
        settings_epoch -> Nullable<BigInt>,
        old_value -> Nullable<Text>,
        new_value -> Nullable<Text>,
        reason -> Nullable<Text>,
        decision -> Nullable<Text>,
    }
}

diesel::table! {
    orders (id) {
        id -> Text,
        store_id -> Text,
        terminal_id -> Text,
        status -> Text,
        document -> Text,
        created_at -> BigInt,
        published_at -> Nullable<BigInt>,
        processed_at -> Nullable<BigInt>,
        attempts -> Integer,
        may_have_arrived -> Bool,
    }
}

diesel::table! {
    order_keys (id) {
        id -> Text,
        caller -> Text,
        idempotency_key -> Text,
        fingerprint -> Text,
        order_id -> Text,
        status -> Integer,
        answer -> Text,
        created_at -> BigInt,
    }
}

diesel::table! {
    order_outbox (seq) {
        seq -> BigInt,
        order_id -> Text,
        batch -> Nullable<BigInt>,
        parked_at -> Nullable<BigInt>,
        parked_reason -> Nullable<Text>,
        key_id -> Nullable<Text>,
        caller -> Nullable<Text>,
    }
}

diesel::table! {
    order_publishing (id) { id -> Integer, owner -> Text, lease_until -> BigInt, last_batch -> BigInt, }
}

diesel::table! {
    order_deliveries (order_id) {
        order_id -> Text,
        partition -> Integer,
        offset -> BigInt,
        published_at -> BigInt,
        attempts -> Integer,
        counted -> Integer,
        next_attempt_at -> BigInt,
        claim -> Nullable<BigInt>,
        held_epoch -> Nullable<BigInt>,
        last_error -> Nullable<Text>,
    }
}

diesel::table! { order_dispatch (id) { id -> Integer, used_until -> BigInt, } }

diesel::table! { order_counts (status) { status -> Text, orders -> BigInt, } }

diesel::table! {
    order_timeline (id) {
        id -> BigInt,
        order_id -> Text,
        at -> BigInt,
        kind -> Text,
        attempt -> Nullable<Integer>,
        status -> Nullable<Integer>,
        duration_ms -> Nullable<BigInt>,
        message -> Nullable<Text>,
    }
}

diesel::allow_tables_to_appear_in_same_query!(orders, order_outbox, order_deliveries);

diesel::table! {
    processes (id) {
        id -> Text,
        started_at -> BigInt,
        heartbeat_at -> BigInt,
        info -> Text,
    }
}

diesel::table! { leases (name) { name -> Text, owner -> Text, expires_at -> BigInt, } }

diesel::table! {
    login_sessions (id) {
        id -> Text,
        secret -> Binary,
        token_name -> Text,
        token_digest -> Binary,
        address -> Text,
        agent -> Text,
        created_at -> BigInt,
        seen_at -> BigInt,
        ends_at -> BigInt,
    }
}
