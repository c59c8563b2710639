// What the summary of orders says, as charts.

import { money, number, t } from "../common/texts.js";
import { chart } from "./chart.js";
import { SOLD, STATES, stateName } from "./states.js";

const DAY = 86_400_000;

/** The dates of the last `count` days, in UTC, the oldest first, as the API counts them. */
export function datesUntil(now, count) {
  const today = Math.floor(now / DAY);
  return Array.from({ length: count }, (_, at) => new Date((today - count + 1 + at) * DAY).toISOString().slice(0, 10));
}

const known = (data) => [...new Set([...STATES, ...data.map(({ status }) => status)])];

/** How many orders are in each state, states without any left out. */
export const statesOf = (data) =>
  known(data)
    .map((state) => ({ state, orders: data.filter(({ status }) => status === state).reduce((sum, { orders }) => sum + orders, 0) }))
    .filter(({ orders }) => orders > 0);

/** `read` of each day's entry, summed over the entries whose state is one of `states`. */
function perDay(data, dates, states, read) {
  const sums = new Map(dates.map((date) => [date, 0]));
  for (const one of data) if (states.includes(one.status) && sums.has(one.day)) sums.set(one.day, sums.get(one.day) + read(one));
  return [...sums.values()];
}

/** Two charts of the dates `days`: what was sold, and orders by their state. */
export function orderCharts(data, days, signal) {
  const count = days.length;
  const sold = perDay(data, days, SOLD, ({ total }) => total);
  const total = sold.reduce((sum, value) => sum + value, 0);
  const series = known(data)
    .map((state) => ({ name: state, label: stateName(state), values: perDay(data, days, [state], ({ orders }) => orders) }))
    .filter(({ values }) => values.some(Boolean));
  const orders = series.reduce((sum, { values }) => sum + values.reduce((all, value) => all + value, 0), 0);
  return [
    chart({
      title: t("admin.overview.salesChart"),
      summary: t("admin.overview.sold", { total: money(total), count }),
      days,
      signal,
      format: money,
      short: compact,
      series: [{ name: "sold", label: t("admin.overview.sales"), values: sold }],
    }),
    chart({
      title: t("admin.overview.ordersChart"),
      summary: t("admin.overview.placed", { orders: number(orders), count }),
      days,
      signal,
      format: number,
      short: compact,
      isCount: true,
      series,
    }),
  ];
}

const compact = (value) => number(value, { notation: "compact", maximumFractionDigits: 1 });
