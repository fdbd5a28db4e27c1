//! Clips are looked for: one by its names, pages of them, numbers of them, and the space that they take.

use std::fmt::Write as _;

use rusqlite::{Connection, OptionalExtension, ToSql, params_from_iter};

use super::row::{self, Api, COLUMNS, Job, Kind, Status};
use crate::error::{Error, Result};

/// Which clips are listed. The default one lists all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// Only those in one of these states; all if there is none.
    pub statuses: Vec<Status>,
    /// Only those with a mark, or only those without.
    pub starred: Option<bool>,
    /// Only those made from this clip.
    pub parent: Option<String>,
    /// Only those whose prompts contain the text; letters of ASCII match large and small.
    pub text: Option<String>,
    /// Only those asked for by this interface.
    pub api: Option<Api>,
    /// Only those made of this.
    pub kind: Option<Kind>,
    /// Only those that begin or end with a given picture, or only those that do not.
    pub pictured: Option<bool>,
}

/// The order of a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// The oldest first.
    Ascending,
    /// The newest first.
    #[default]
    Descending,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The clips.
    pub jobs: Vec<Job>,
    /// Whether the list goes on after them.
    pub more: bool,
}

/// Returns a clip of the owner.
///
/// # Errors
///
/// [`Error::NotFound`], also for one that is deleted.
pub fn get(connection: &Connection, owner: &str, id: &str) -> Result<Job> {
    row::find(connection, owner, id)
}

/// Returns the clip of the owner with the name that the client gave it.
///
/// # Errors
///
/// [`Error::Database`].
pub fn by_external(connection: &Connection, owner: &str, external_id: &str) -> Result<Option<Job>> {
    let sql = format!("SELECT {COLUMNS} FROM jobs WHERE owner = ?1 AND external_id = ?2");
    Ok(connection.prepare_cached(&sql)?.query_row([owner, external_id], Job::read).optional()?)
}

/// Returns at most `limit` of the owner's clips that follow the one named `after` in the order.
///
/// # Errors
///
/// [`Error::Database`].
pub fn list(
    connection: &Connection,
    owner: &str,
    filter: &Filter,
    after: Option<&str>,
    limit: u32,
    order: Order,
) -> Result<Page> {
    let (sql, values) = page_query(owner, filter, after, limit, order);
    let mut statement = connection.prepare_cached(&sql)?;
    let jobs = statement.query_map(params_from_iter(values), Job::read)?;
    let mut jobs = jobs.collect::<rusqlite::Result<Vec<_>>>()?;
    let more = jobs.len() > limit as usize;
    jobs.truncate(limit as usize);
    Ok(Page { jobs, more })
}

/// Returns at most `limit` of the owner's clips, the newest first, after the first `skip` of them.
///
/// # Errors
///
/// [`Error::Database`].
pub fn numbered_page(connection: &Connection, owner: &str, filter: &Filter, skip: u32, limit: u32) -> Result<Vec<Job>> {
    let (condition, mut values) = condition(owner, filter);
    values.extend([limit, skip].map(|number| Box::new(number) as Box<dyn ToSql>));
    let (first, second) = (values.len() - 1, values.len());
    let sql = format!("SELECT {COLUMNS} FROM jobs WHERE {condition} ORDER BY id DESC LIMIT ?{first} OFFSET ?{second}");
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement.query_map(params_from_iter(values), Job::read)?.collect::<rusqlite::Result<_>>()?)
}

/// Counts the owner's clips.
///
/// # Errors
///
/// [`Error::Database`].
pub fn count(connection: &Connection, owner: &str, filter: &Filter) -> Result<u64> {
    let (condition, values) = condition(owner, filter);
    let mut statement = connection.prepare_cached(&format!("SELECT count(*) FROM jobs WHERE {condition}"))?;
    let count: i64 = statement.query_row(params_from_iter(values), |row| row.get(0))?;
    Ok(count.cast_unsigned())
}

/// Returns the names of the owner's waiting clips in the order in which they will be made.
///
/// # Errors
///
/// [`Error::Database`].
pub fn waiting(connection: &Connection, owner: &str) -> Result<Vec<String>> {
    let sql = "SELECT id FROM jobs WHERE owner = ?1 AND status = 'queued' ORDER BY rank, id";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_map([owner], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}

/// Returns the planned seconds of the clips whose turn comes before that of a further clip of the owner: the owner's own that wait,
/// and of every other owner as many and one more. `None` for one of which nothing is known.
///
/// # Errors
///
/// [`Error::Database`].
pub fn before(connection: &Connection, owner: &str) -> Result<Vec<Option<f64>>> {
    let sql = "SELECT owner, plan ->> '$.time.seconds', row_number() OVER (PARTITION BY owner ORDER BY rank, id) \
               FROM jobs WHERE status = 'queued' AND paused = 0";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let waiting: Vec<(String, Option<f64>, i64)> = rows.collect::<rusqlite::Result<_>>()?;
    let own = waiting.iter().filter(|(by, ..)| by == owner).count() as i64;
    let comes_before = |(by, _, place): &&(String, Option<f64>, i64)| by == owner || *place <= own + 1;
    Ok(waiting.iter().filter(comes_before).map(|(_, seconds, _)| *seconds).collect())
}

/// Returns the clips of all owners that workers hold: running ones and those that are being cancelled.
///
/// # Errors
///
/// [`Error::Database`].
pub fn held(connection: &Connection) -> Result<Vec<Job>> {
    let sql = format!("SELECT {COLUMNS} FROM jobs WHERE status IN ('running', 'cancelling') ORDER BY id");
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement.query_map([], Job::read)?.collect::<rusqlite::Result<_>>()?)
}

/// Returns the bytes of the owner's clips and uploads.
///
/// # Errors
///
/// [`Error::Database`].
pub fn storage(connection: &Connection, owner: &str) -> Result<u64> {
    let sql = "SELECT (SELECT coalesce(sum(bytes), 0) FROM jobs WHERE owner = ?1 AND bytes > 0) \
               + (SELECT coalesce(sum(bytes), 0) FROM assets WHERE owner = ?1)";
    let bytes: i64 = connection.prepare_cached(sql)?.query_row([owner], |row| row.get(0))?;
    Ok(bytes.cast_unsigned())
}

/// Checks that `wanted` more bytes fit into the owner's quota.
pub(in crate::store) fn check_storage(
    connection: &Connection,
    owner: &str,
    limit: Option<u64>,
    wanted: u64,
) -> Result<()> {
    let Some(limit) = limit else { return Ok(()) };
    let used = storage(connection, owner)?;
    if used.saturating_add(wanted) > limit {
        return Err(Error::StorageQuota { limit, used, wanted });
    }
    Ok(())
}

type Values = Vec<Box<dyn ToSql>>;

fn page_query(owner: &str, filter: &Filter, after: Option<&str>, limit: u32, order: Order) -> (String, Values) {
    let (mut sql, mut values) = condition(owner, filter);
    let (compare, direction) = match order {
        Order::Ascending => (">", "ASC"),
        Order::Descending => ("<", "DESC"),
    };
    if let Some(after) = after {
        values.push(Box::new(after.to_string()));
        let _ = write!(sql, " AND id {compare} ?{}", values.len());
    }
    values.push(Box::new(i64::from(limit) + 1));
    sql = format!("SELECT {COLUMNS} FROM jobs WHERE {sql} ORDER BY id {direction} LIMIT ?{}", values.len());
    (sql, values)
}

fn condition(owner: &str, filter: &Filter) -> (String, Values) {
    let mut sql = String::from("owner = ?1 AND deleted_at IS NULL");
    let mut values: Values = vec![Box::new(owner.to_string())];
    let mut add = |condition: &str, value: Box<dyn ToSql>| {
        values.push(value);
        let _ = write!(sql, " AND {}", condition.replace('?', &format!("?{}", values.len())));
    };
    if let Some(parent) = &filter.parent {
        add("parent = ?", Box::new(parent.clone()));
    }
    if let Some(api) = filter.api {
        add("api = ?", Box::new(api));
    }
    if let Some(kind) = filter.kind {
        add("kind = ?", Box::new(kind));
    }
    if let Some(pictured) = filter.pictured {
        add("(coalesce(request ->> '$.image', request ->> '$.last_image') IS NOT NULL) = ?", Box::new(pictured));
    }
    if let Some(text) = &filter.text {
        let pattern = text.replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_");
        add(r"prompt LIKE ? ESCAPE '\'", Box::new(format!("%{pattern}%")));
    }
    if !filter.statuses.is_empty() {
        let words: Vec<_> = filter.statuses.iter().map(|status| format!("'{status}'")).collect();
        let _ = write!(sql, " AND status IN ({})", words.join(", "));
    }
    if let Some(starred) = filter.starred {
        sql += if starred { " AND starred = 1" } else { " AND starred = 0" };
    }
    (sql, values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(connection: &Connection, filter: &Filter, after: Option<&str>, order: Order) -> String {
        let (sql, values) = page_query("a", filter, after, 100, order);
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a query");
        let steps = statement.query_map(params_from_iter(values), |row| row.get::<_, String>("detail"));
        steps.expect("a plan").map(|step| step.expect("a step")).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn every_list_follows_an_index_in_its_order() {
        let connection = crate::store::in_memory().expect("a store");
        let mut filters = vec![Filter::default()];
        filters.extend(Status::ALL.iter().map(|status| Filter { statuses: vec![*status], ..Filter::default() }));
        let [queued, running, cancelling] = [Status::Queued, Status::Running, Status::Cancelling];
        for statuses in [vec![queued, running], vec![running, cancelling], vec![queued, running, cancelling]] {
            filters.push(Filter { statuses, ..Filter::default() });
        }
        filters.push(Filter { starred: Some(true), ..Filter::default() });
        filters.push(Filter { starred: Some(false), ..Filter::default() });
        filters.push(Filter { parent: Some("video_1".into()), ..Filter::default() });
        filters.push(Filter { text: Some("a".into()), ..Filter::default() });
        filters.push(Filter { api: Some(Api::Own), kind: Some(Kind::Clip), ..Filter::default() });
        filters.push(Filter { pictured: Some(true), ..Filter::default() });
        for filter in &filters {
            for (after, order) in
                [(None, Order::Descending), (Some("x"), Order::Descending), (Some("x"), Order::Ascending)]
            {
                let plan = plan(&connection, filter, after, order);
                assert!(plan.contains("SEARCH jobs USING INDEX jobs_"), "{filter:?}: {plan}");
                assert!(!plan.contains("SCAN") && !plan.contains("TEMP B-TREE"), "{filter:?}: {plan}");
            }
        }
        let starred = Filter { starred: Some(true), ..Filter::default() };
        assert!(plan(&connection, &starred, None, Order::Ascending).contains("jobs_starred"));
        let children = Filter { parent: Some("video_1".into()), ..Filter::default() };
        assert!(plan(&connection, &children, None, Order::Ascending).contains("jobs_children"));
    }

    /// The work of a query is counted in steps of the database's machine, which do not depend on how fast this one is.
    #[test]
    fn a_page_of_a_hundred_thousand_clips_costs_as_much_as_one_of_two_hundred() {
        let steps = |clips: u32| {
            let connection = crate::store::in_memory().expect("a store");
            let fill = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) \
                INSERT INTO jobs (id, owner, status, rank, created_at, api, kind, prompt, request, plan, cost) \
                SELECT printf('video_%026d', i), 'a', 'queued', i, 0, 'own', 'clip', 'x', '{}', '{}', 0 FROM n";
            connection.execute(fill, [clips]).expect("rows");
            let after = format!("video_{:026}", clips / 2);
            let filters = [Filter::default(), Filter { statuses: vec![Status::Queued], ..Filter::default() }];
            filters.map(|filter| {
                let (sql, values) = page_query("a", &filter, Some(&after), 100, Order::Descending);
                let mut statement = connection.prepare(&sql).expect("a query");
                let found = statement.query_map(params_from_iter(values), Job::read).expect("rows").count();
                assert_eq!(found, 101);
                statement.get_status(rusqlite::StatementStatus::VmStep)
            })
        };
        let (few, many) = (steps(204), steps(100_000));
        for (few, many) in few.iter().zip(many) {
            assert!((100..few + 10).contains(&many), "{few} steps, then {many}");
        }
    }
}
