//! Which rows of a Parquet file pass a condition: groups and pages that cannot have any, by their
//! statistics, are left out, and of the others the condition's columns are read.

use std::ops::Range;

use arrow::error::ArrowError;
use arrowhop_types::Problems;
use parquet::arrow::arrow_reader::RowSelection;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::basic::Type;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;

use crate::filter::{Bound, BoundCheck, BoundTest, Bounds, Filter};
use crate::parallel;
use crate::parquet_file::ParquetFile;
use crate::table::guarded;

/// What is known of a column's pages, and which rows each has.
type Pages = (Bounds, Vec<Range<usize>>);

/// The rows of a file that pass.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Their numbers in their group, group by group.
    rows: Vec<u32>,
    /// How many are before each group, and at last all.
    before: Vec<usize>,
}

impl Kept {
    /// How many there are of each group.
    pub(crate) fn group_rows(&self) -> Vec<u32> {
        let counts = self.before.windows(2).map(|pair| pair[1] - pair[0]);
        counts.map(|count| u32::try_from(count).expect("row counts were checked")).collect()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.rows.len()).expect("row counts were checked")
    }

    /// The numbers in their group of those of a group.
    pub(crate) fn of_group(&self, group: usize) -> &[u32] {
        &self.rows[self.before[group]..self.before[group + 1]]
    }
}

impl ParquetFile {
    /// Finds the rows that pass.
    pub(crate) fn find(&self, name: &str, filter: &Filter) -> Result<Kept, Problems> {
        let schema = self.schema();
        let data_type =
            |column: &str| Some(schema.field_with_name(column).ok()?.data_type().clone());
        let bound = filter.bind(name, data_type, || crate::table::missing_text(schema))?;
        let columns: Vec<usize> =
            filter.columns().iter().filter_map(|column| schema.index_of(column).ok()).collect();
        let wrong =
            |text: String| Problems::one(name, format!("is damaged: {text}; write it anew"));
        let may: Vec<RowSelection> = guarded(|| self.may_pass(&bound)).map_err(wrong)?;
        let groups: Vec<(usize, RowSelection)> = may.into_iter().enumerate().collect();
        let found = parallel::map(&groups, |(group, may)| {
            guarded(|| self.passing(&bound, &columns, *group, may))
        });
        let (mut kept, mut examined) = (Kept { rows: Vec::new(), before: vec![0] }, 0);
        for (found, (_, may)) in found.into_iter().zip(&groups) {
            kept.rows.extend(found.map_err(wrong)?);
            kept.before.push(kept.rows.len());
            examined += may.row_count();
        }
        tracing::debug!(
            name,
            examined,
            kept = kept.rows.len(),
            rows = self.rows(),
            "rows filtered"
        );
        Ok(kept)
    }

    /// The rows of a group that pass, of those that may.
    fn passing(
        &self,
        bound: &Bound,
        columns: &[usize],
        group: usize,
        may: &RowSelection,
    ) -> Result<Vec<u32>, ArrowError> {
        let rows = numbers(may);
        if rows.is_empty() {
            return Ok(rows);
        }
        let mut left = rows.as_slice();
        let mut passing = Vec::new();
        for batch in self.read(columns, group, &rows)? {
            let batch = batch?;
            let found = bound.passes(&batch)?;
            let (these, rest) = left.split_at_checked(batch.num_rows()).ok_or_else(|| {
                ArrowError::ParquetError("its columns go on behind the last row".into())
            })?;
            let pass = found.iter().zip(these).filter(|(found, _)| *found == Some(true));
            passing.extend(pass.map(|(_, row)| *row));
            left = rest;
        }
        if left.is_empty() {
            return Ok(passing);
        }
        Err(ArrowError::ParquetError("its columns end before the last row".into()))
    }

    /// The rows of each group that may pass, by what the footer and the page index say.
    fn may_pass(&self, bound: &Bound) -> Result<Vec<RowSelection>, ParquetError> {
        let footer = self.footer();
        let groups = footer.row_groups();
        let by_groups = may_pass(&bound.test, &mut |column, check| {
            let may = match self.group_bounds(column)? {
                Some(bounds) => check.may_pass(&bounds)?,
                None => vec![true; groups.len()],
            };
            // A group is one row here.
            Ok(selection(may.iter().zip(0..).map(|(may, group)| (*may, group..group + 1))))
        })?;
        let may: Vec<u32> = numbers(&by_groups);
        let mut selections = Vec::with_capacity(groups.len());
        for (group, facts) in groups.iter().enumerate() {
            let rows = usize::try_from(facts.num_rows()).expect("row counts were checked");
            if may.binary_search(&u32::try_from(group).expect("groups have rows")).is_err() {
                selections.push(selection([(false, 0..rows)].into_iter()));
                continue;
            }
            selections.push(may_pass(&bound.test, &mut |column, check| {
                let Some((bounds, pages)) = self.page_bounds(column, group, rows)? else {
                    return Ok(selection([(true, 0..rows)].into_iter()));
                };
                Ok(selection(check.may_pass(&bounds)?.into_iter().zip(pages)))
            })?);
        }
        Ok(selections)
    }

    /// What the footer says of a column's values in each group.
    fn group_bounds(&self, column: &str) -> Result<Option<Bounds>, ParquetError> {
        let Some(converter) = self.converter(column)? else { return Ok(None) };
        let groups = self.footer().row_groups();
        let Some(leaf) = converter.parquet_column_index() else { return Ok(None) };
        let mut statistics = groups.iter().filter_map(|group| group.column(leaf).statistics());
        if statistics.any(|statistics| statistics.is_min_max_deprecated()) {
            // Nobody knows which order they are of.
            return Ok(None);
        }
        let nulls = converter.row_group_null_counts(groups)?;
        Ok(Some(Bounds {
            least: converter.row_group_mins(groups)?,
            greatest: converter.row_group_maxes(groups)?,
            nulls: nulls.iter().collect(),
        }))
    }

    /// What the page index, where there is one, says of a column's values in each page of a group, and
    /// which rows each has.
    fn page_bounds(
        &self,
        column: &str,
        group: usize,
        rows: usize,
    ) -> Result<Option<Pages>, ParquetError> {
        let footer = self.footer();
        let Some((values, places)) = footer.column_index().zip(footer.offset_index()) else {
            return Ok(None);
        };
        let Some(converter) = self.converter(column)? else { return Ok(None) };
        let Some(leaf) = converter.parquet_column_index() else { return Ok(None) };
        let Some(pages) = page_rows(footer, group, leaf, rows) else { return Ok(None) };
        let nulls = converter.data_page_null_counts(values, places, [&group])?;
        let bounds = Bounds {
            least: converter.data_page_mins(values, places, [&group])?,
            greatest: converter.data_page_maxes(values, places, [&group])?,
            nulls: nulls.iter().collect(),
        };
        let is_whole = [bounds.least.len(), bounds.greatest.len(), bounds.nulls.len()];
        Ok((is_whole == [pages.len(); 3]).then_some((bounds, pages)))
    }

    /// Statistics of a column, if they are of use.
    fn converter(&self, column: &str) -> Result<Option<StatisticsConverter<'_>>, ParquetError> {
        let schema = self.footer().file_metadata().schema_descr();
        let converter = StatisticsConverter::try_new(column, self.schema(), schema)?
            .with_missing_null_counts_as_zero(false);
        // Times of 96 bits have no order.
        let is_ordered = converter
            .parquet_column_index()
            .is_some_and(|leaf| schema.column(leaf).physical_type() != Type::INT96);
        Ok(is_ordered.then_some(converter))
    }
}

/// Which rows each page of a column has, if what the file says of it is plausible.
fn page_rows(
    footer: &ParquetMetaData,
    group: usize,
    leaf: usize,
    rows: usize,
) -> Option<Vec<Range<usize>>> {
    let pages = footer.offset_index()?.get(group)?.get(leaf)?.page_locations();
    let starts = pages.iter().map(|page| usize::try_from(page.first_row_index).ok());
    let mut bounds = starts.collect::<Option<Vec<usize>>>()?;
    bounds.push(rows);
    let is_sound = bounds.first() == Some(&0) && bounds.is_sorted_by(|a, b| a < b);
    is_sound.then(|| bounds.windows(2).map(|pair| pair[0]..pair[1]).collect())
}

/// The rows that may pass, from those of each check.
fn may_pass(
    test: &BoundTest,
    of_check: &mut dyn FnMut(&str, &BoundCheck) -> Result<RowSelection, ParquetError>,
) -> Result<RowSelection, ParquetError> {
    let (tests, is_all) = match test {
        BoundTest::All(tests) => (tests, true),
        BoundTest::Any(tests) => (tests, false),
        BoundTest::Of { column, check } => return of_check(column, check),
    };
    let (first, rest) = tests.split_first().expect("a chain has parts");
    let mut found = may_pass(first, of_check)?;
    for test in rest {
        let other = may_pass(test, of_check)?;
        found = if is_all { found.intersection(&other) } else { found.union(&other) };
    }
    Ok(found)
}

/// Those of these ranges that are selected; together they are all rows.
fn selection(ranges: impl Iterator<Item = (bool, Range<usize>)>) -> RowSelection {
    let (mut chosen, mut rows) = (Vec::new(), 0);
    for (is_chosen, range) in ranges {
        rows = range.end;
        if is_chosen {
            chosen.push(range);
        }
    }
    RowSelection::from_consecutive_ranges(chosen.into_iter(), rows)
}

/// The numbers of the rows that are selected.
fn numbers(selection: &RowSelection) -> Vec<u32> {
    let mut numbers = Vec::with_capacity(selection.row_count());
    let mut at = 0;
    for part in selection.iter() {
        let end = at + u32::try_from(part.row_count).expect("row counts were checked");
        if !part.skip {
            numbers.extend(at..end);
        }
        at = end;
    }
    numbers
}
