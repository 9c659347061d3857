//! Whether the database takes writes on several nodes at once. Row locks of one node mean nothing on another there: updates are lost
//! in a healthy Galera cluster (Jepsen's report on MariaDB Galera Cluster 12.1.2), and the fence around partitions is such an update.

use diesel::prelude::*;
use diesel::sql_types::Text;

use super::Store;
use super::connection::{Database, Purpose, Target};
use super::model::StoreError;
use super::open::blocking;
use super::threads::Connector;

/// The server's variables that tell of several writers.
const VARIABLES: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN \
     ('wsrep_on', 'group_replication_group_name', 'group_replication_single_primary_mode')";

impl Store {
    /// Refuses a server that is a node of a cluster with several writers, unless all writes go to one node, as
    /// `store.galeraSingleWriter` says. A SQLite file has one writer by nature.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`] for such a cluster, and whatever keeps the server from answering.
    pub async fn refuse_several_writers(url: &str, is_single_writer: bool) -> Result<(), StoreError> {
        let target = Target::parse(url)?;
        if is_single_writer || matches!(target, Target::Sqlite(_)) {
            return Ok(());
        }
        let variables = blocking(move || Connector::new(target, Purpose::Read).run(variables)).await?;
        let known: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        several_writers(&known).map_or(Ok(()), |cluster| {
            Err(StoreError::Misconfigured(format!(
                "store.url: the server is a node of {cluster}: where processes write on different nodes, updates are lost although \
                 the cluster is healthy, and two processors could own the same partition. Let every process write on one and the \
                 same node, and set store.galeraSingleWriter = true; or use a server of its own (docs/mysql.md)"
            )))
        })
    }
}

/// What kind of cluster with several writers the variables tell of, if any.
fn several_writers(variables: &[(&str, &str)]) -> Option<&'static str> {
    let is = |name: &str, wanted: &[&str]| {
        variables.iter().any(|(known, value)| {
            known.eq_ignore_ascii_case(name) && wanted.iter().any(|wanted| value.eq_ignore_ascii_case(wanted))
        })
    };
    if is("wsrep_on", &["ON", "1"]) {
        return Some("a Galera cluster (wsrep_on = ON)");
    }
    let in_a_group = variables.iter().any(|(name, value)| *name == "group_replication_group_name" && !value.is_empty());
    if in_a_group && is("group_replication_single_primary_mode", &["OFF", "0"]) {
        return Some("a group with several primaries (group_replication_single_primary_mode = OFF)");
    }
    None
}

#[derive(QueryableByName)]
struct Variable {
    #[diesel(sql_type = Text, column_name = "Variable_name")]
    name: String,
    #[diesel(sql_type = Text, column_name = "Value")]
    value: String,
}

fn variables(database: &mut Database) -> Result<Vec<(String, String)>, StoreError> {
    let Database::Mysql(session) = database else { return Ok(Vec::new()) };
    let rows: Vec<Variable> = diesel::sql_query(VARIABLES).load(session.connection())?;
    Ok(rows.into_iter().map(|row| (row.name, row.value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_that_writes_on_several_nodes_is_told_from_a_server_of_its_own() {
        let alone: [&[(&str, &str)]; 4] = [
            &[],
            &[("wsrep_on", "OFF")],
            &[("group_replication_group_name", ""), ("group_replication_single_primary_mode", "OFF")],
            &[("group_replication_group_name", "9a1e"), ("group_replication_single_primary_mode", "ON")],
        ];
        for variables in alone {
            assert_eq!(several_writers(variables), None, "{variables:?}");
        }
        assert!(several_writers(&[("wsrep_on", "ON")]).is_some_and(|cluster| cluster.contains("Galera")));
        let several = [("group_replication_group_name", "9a1e"), ("group_replication_single_primary_mode", "OFF")];
        assert!(several_writers(&several).is_some_and(|cluster| cluster.contains("several primaries")));
    }

    #[tokio::test]
    async fn a_file_has_one_writer_by_nature() {
        Store::refuse_several_writers("sqlite:/nowhere/store.db", false).await.unwrap();
    }

    #[tokio::test]
    async fn a_server_of_its_own_is_taken_and_a_node_of_a_cluster_only_with_a_single_writer() {
        if let Ok(server) = std::env::var("TILLSTREAM_TEST_MYSQL") {
            Store::refuse_several_writers(&format!("{server}/mysql"), false).await.unwrap();
        }
        // A server that was started with wsrep_on = ON, where there is one.
        let Ok(node) = std::env::var("TILLSTREAM_TEST_GALERA") else { return };
        let refused = Store::refuse_several_writers(&format!("{node}/mysql"), false).await;
        assert!(
            matches!(&refused, Err(StoreError::Misconfigured(text)) if text.contains("store.galeraSingleWriter")),
            "{refused:?}"
        );
        Store::refuse_several_writers(&format!("{node}/mysql"), true).await.unwrap();
    }
}
