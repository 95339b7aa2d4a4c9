"use strict";
(() => {
  const report = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const COLOURS = ["#3b7dd8", "#c9701a", "#2b9468", "#c8504f", "#8a6fd1", "#a9714b", "#c9599f", "#7f8a3b", "#2391a6", "#5a6fb0", "#87919c"];
  const STOPS = [0.01, 0.1, 1, 10, 60, 600, 3600, 21600, 86400, 604800, 2592000, 31536000, 315360000];
  const TIMES = [60, 300, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 1209600, 2592000, 7776000, 31536000];

  // ------------------------------------------------------------------------------------------ how values are shown

  const count = (value) => value.toLocaleString("en");

  function size(bytes) {
    let unit = 0;
    while (bytes >= 999.5 && unit < 5) { bytes /= 1000; unit += 1; }
    return (unit && bytes < 9.995 ? bytes.toFixed(1) : bytes.toFixed(0)) + " " + ["B", "kB", "MB", "GB", "TB", "PB"][unit];
  }

  function duration(seconds) {
    const [length, unit] = seconds < 119.5 ? [1, "s"] : seconds < 7170 ? [60, "min"] : seconds < 171000 ? [3600, "h"] : [86400, "days"];
    const value = seconds / length;
    return (value < 9.95 && value % 1 ? value.toFixed(1) : value.toFixed(0)) + " " + unit;
  }

  function utc(seconds, from, to) { return new Date(seconds * 1000).toISOString().replace("T", " ").slice(from, to); }
  const moment = (seconds) => utc(seconds, 0, 16);

  function span(begin, end) {
    if (end - begin >= 86400) return utc(begin, 0, 10) + (end - begin > 86400 ? " to " + utc(end - 1, 0, 10) : "");
    return moment(begin) + "–" + utc(end, 11, 16);
  }

  // ------------------------------------------------------------------------------------------ what the charts show

  const series = (label, number, values) => ({ label, colour: COLOURS[number % COLOURS.length], values, on: true });
  const locations = (kind) => report.series.map((name, number) => series(name, name === report.others ? 10 : number, (level) => level[kind][number]));

  const CHARTS = {
    shipped: { show: count, stacked: true, series: locations("files"), bytes: locations("bytes") },
    backlog: { show: count, series: [series("Files waiting", 0, (level) => level.backlog)], more: [["Bytes", (level) => level.backlog_bytes, size]] },
    oldest: { show: duration, times: true, series: [series("Age of the oldest file", 1, (level) => level.oldest)] },
    delay: {
      show: duration, times: true, logarithmic: true,
      series: [series("Half of the files within", 2, (level) => level.delay_median), series("95 of 100 within", 4, (level) => level.delay_p95)],
    },
    failures: {
      show: count, stacked: true, known: (level) => level.failures.length > 0,
      series: [
        ...report.kinds.map((kind, number) => series(kind, number + 1, (level) => level.failures[number])),
        series("Runs abandoned", 3, (level) => level.abandoned),
      ].filter((each, number) => report.levels.some((level) => number === report.kinds.length ? level.abandoned.some(Boolean) : (level.failures[number] || []).some(Boolean))),
    },
  };

  let range = [report.since, report.until];
  const charts = [];

  /** The finest level that covers what is shown and still leaves room for each of its bins. */
  function levelFor(chart) {
    const usable = report.levels.filter((level) => !chart.known || chart.known(level));
    const covering = usable.filter((level) => level.begin <= Math.max(range[0], report.since) + level.step);
    const room = chart.width / (chart.stacked ? 2.6 : 1.2);
    return covering.find((level) => (range[1] - range[0]) / level.step <= room) || covering[covering.length - 1] || usable[usable.length - 1];
  }

  /** The bins in sight: their middles, and the values of each series; stacked ones carry those below them. */
  function cut(chart) {
    const level = chart.level = levelFor(chart);
    const bins = level.abandoned.length;
    const first = Math.min(Math.max(Math.floor((range[0] - level.begin) / level.step), 0), bins - 1);
    const last = Math.min(Math.max(Math.ceil((range[1] - level.begin) / level.step), first + 1), bins);
    chart.range = [Math.min(range[0], level.begin + first * level.step), Math.max(range[1], level.begin + last * level.step)];
    chart.bins = Array.from({ length: last - first }, (_, number) => level.begin + (first + number) * level.step);
    chart.raw = chart.series.map((each) => each.values(level).slice(first, last));
    if (chart.logarithmic) chart.raw = chart.raw.map((values) => values.map((value) => value === null ? null : Math.max(value, 0.01)));
    chart.more_raw = (chart.more || []).map(([, values]) => values(level).slice(first, last));
    const drawn = chart.raw.map((values, number) => chart.series[number].on ? values : values.map(() => null));
    if (chart.stacked) {
      for (let number = drawn.length - 2; number >= 0; number -= 1) {
        drawn[number] = drawn[number].map((value, bin) => (value || 0) + (drawn[number + 1][bin] || 0));
      }
    }
    return [chart.bins.map((begin) => begin + level.step / 2), ...drawn];
  }

  // ------------------------------------------------------------------------------------------ drawing

  const colour = (name) => () => getComputedStyle(root).getPropertyValue(name).trim();

  function times(plot, ticks, axis, space, step) {
    return ticks.map((tick, number) => {
      if (step >= 86400 * 25) return utc(tick, 0, 7);
      if (step >= 86400) return utc(tick, 5, 10);
      return utc(tick, 11, 16) + (number === 0 || tick % 86400 === 0 ? "\n" + utc(tick, 5, 10) : "");
    });
  }

  /** The range of a logarithmic axis: room around the values, at least a factor of a hundred. */
  function decades(plot, low, high) {
    if (!(high > 0)) return [1, 100];
    return [Math.min(low / 1.5, high / 60), high * 1.6];
  }

  /** The values that no line would show, since the bins beside them have none. */
  function lonely(plot, number) {
    const column = plot.data[number];
    const found = [];
    column.forEach((value, bin) => {
      if (value != null && column[bin - 1] == null && column[bin + 1] == null) found.push(bin);
    });
    return found;
  }

  function options(chart) {
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--grid"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const bars = uPlot.paths.bars({ size: [0.86, 40], align: 0 });
    return {
      width: chart.width, height: chart.height, legend: { show: false },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      scales: {
        x: { range: () => chart.range },
        y: chart.logarithmic ? { distr: 3, range: decades } : { range: (plot, low, high) => [0, high > 0 ? high * 1.06 : 1] },
      },
      axes: [
        { ...axis, values: times, space: 58, size: 36, gap: 4 },
        {
          ...axis, size: 58, values: (plot, ticks) => ticks.map((tick) => chart.show === count && tick % 1 ? "" : chart.show(tick)),
          ...(chart.times ? { incrs: [1, 5, 10, 30, ...TIMES] } : {}),
          ...(chart.logarithmic ? { splits: (plot) => STOPS.filter((stop) => stop >= plot.scales.y.min && stop <= plot.scales.y.max), filter: (plot, ticks) => ticks } : {}),
        },
      ],
      series: [{}, ...chart.series.map((each) => ({
        stroke: each.colour, fill: chart.stacked ? each.colour : each.colour + "22",
        width: chart.stacked ? 0 : 1.75, paths: chart.stacked ? bars : undefined,
        points: chart.stacked ? { show: false } : { show: true, size: 5, filter: lonely },
      }))],
      cursor: {
        y: false, points: { show: !chart.stacked }, drag: { x: true, y: false, setScale: false },
        sync: { key: "time", scales: ["x", null], filters: { pub: (type) => type === "mousemove" || type === "mouseleave" } },
        bind: { dblclick: () => () => { show(report.since, report.until); return null; } },
      },
      hooks: {
        setCursor: [() => tip(chart)],
        setSelect: [(plot) => {
          if (plot.select.width < 6) return;
          const [left, width] = [plot.select.left, plot.select.width];
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          show(plot.posToVal(left, "x"), plot.posToVal(left + width, "x"));
        }],
      },
    };
  }

  function element(parent, tag, text, type) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (type) made.className = type;
    parent.append(made);
    return made;
  }

  /** What the bin under the marker holds: [colour, name, value as shown]. */
  function values(chart, bin) {
    const found = [];
    chart.series.forEach((each, number) => {
      const value = chart.raw[number][bin];
      if (each.on && value !== null && value !== undefined && !(chart.stacked && value === 0)) found.push([each.colour, each.label, chart.show(value), value]);
    });
    (chart.more || []).forEach(([label, , form], number) => {
      const value = chart.more_raw[number][bin];
      if (value !== null && value !== undefined) found.push(["transparent", label, form(value), value]);
    });
    if (chart.stacked && found.length > 1) found.push(["transparent", "Together", chart.show(found.reduce((sum, each) => sum + each[3], 0)), 0]);
    return found;
  }

  const named = (chart, bin) => span(chart.bins[bin], chart.bins[bin] + chart.level.step);

  function tip(chart) {
    const bin = chart.plot.cursor.idx;
    const wanted = bin !== null && bin !== undefined && chart.plot.cursor.left >= 0 && (chart.plot.over.matches(":hover") || chart.place.contains(document.activeElement));
    chart.tip.hidden = !wanted;
    if (!wanted || bin >= chart.bins.length) return;
    chart.tip.replaceChildren();
    element(chart.tip, "b", named(chart, bin));
    const found = values(chart, bin);
    if (!found.length) element(chart.tip, "span", "nothing");
    for (const [paint, label, value] of found) {
      const row = element(chart.tip, "span");
      element(row, "i").style.background = paint;
      element(row, "span", label).style.display = "block";
      element(row, "em", value);
    }
    const left = chart.plot.cursor.left + chart.plot.over.offsetLeft;
    const width = chart.tip.offsetWidth;
    const place = left + 14 + width < chart.width ? left + 14 : Math.max(left - width - 14, 0);
    chart.tip.style.transform = `translate(${Math.min(place, chart.width - width)}px, 8px)`;
  }

  function update(chart) {
    const data = cut(chart);
    if (!chart.plot) {
      chart.plot = new uPlot(options(chart), data, chart.place);
    } else {
      chart.plot.batch(() => { chart.plot.setData(data, false); chart.plot.setScale("x", { min: chart.range[0], max: chart.range[1] }); });
    }
    if (chart.details.open) tabulate(chart);
  }

  function keys(chart) {
    chart.keys.replaceChildren();
    if (chart.series.length < 2) return;
    for (const each of chart.series) {
      const button = element(chart.keys, "button");
      button.type = "button";
      element(button, "i").style.background = each.colour;
      element(button, "span", each.label);
      button.setAttribute("aria-pressed", each.on);
      button.addEventListener("click", () => {
        each.on = !each.on;
        button.setAttribute("aria-pressed", each.on);
        update(chart);
      });
    }
  }

  /** The bins in sight as a table, the latest first. */
  function tabulate(chart) {
    const place = chart.details.querySelector(".scroll");
    const table = document.createElement("table");
    const shown = chart.bins.map((_, bin) => bin).filter((bin) => values(chart, bin).length).reverse();
    element(table, "caption", `${count(shown.length)} of ${count(chart.bins.length)} bins hold something` + (shown.length > 400 ? "; the latest 400 are shown, zoom in for others" : ""));
    const head = element(element(table, "thead"), "tr");
    element(head, "th", "UTC").scope = "col";
    const columns = [...chart.series.map((each, number) => [each.label, chart.raw[number], chart.show]), ...(chart.more || []).map(([label, , form], number) => [label, chart.more_raw[number], form])];
    for (const [label] of columns) element(head, "th", label, "n").scope = "col";
    const body = element(table, "tbody");
    for (const bin of shown.slice(0, 400)) {
      const row = element(body, "tr");
      element(row, "th", named(chart, bin), "t").scope = "row";
      for (const [, column, form] of columns) element(row, "td", column[bin] === null || column[bin] === undefined ? "–" : form(column[bin]), "n");
    }
    place.replaceChildren(table);
  }

  // ------------------------------------------------------------------------------------------ the time shown

  function show(begin, end) {
    const least = 20 * report.levels[0].step;
    const most = Math.max(report.until - report.since, least);
    const length = Math.min(Math.max(end - begin, Math.min(least, most)), most);
    const middle = (begin + end) / 2;
    const from = Math.min(Math.max(middle - length / 2, report.since), report.since + most - length);
    range = [from, from + length];
    charts.forEach(update);
    tell();
  }

  function tell() {
    document.getElementById("range").textContent = `${moment(range[0])} – ${moment(range[1])} UTC, in steps of ${duration(charts.length ? charts[0].level.step : 3600)}`;
    for (const button of document.querySelectorAll("[data-days]")) {
      const length = Number(button.dataset.days) * 86400 || report.until - report.since;
      button.setAttribute("aria-pressed", Math.abs(range[1] - range[0] - length) < 1 && Math.abs(range[1] - report.until) < 1);
      button.hidden = Number(button.dataset.days) * 86400 >= report.until - report.since;
    }
  }

  function onKey(key, shift) {
    const length = range[1] - range[0];
    const middle = (range[0] + range[1]) / 2;
    if (key === "+" || key === "=") show(middle - length / 4, middle + length / 4);
    else if (key === "-") show(middle - length, middle + length);
    else if (key === "0") show(report.since, report.until);
    else if (shift && key === "ArrowLeft") show(range[0] - length / 2, range[1] - length / 2);
    else if (shift && key === "ArrowRight") show(range[0] + length / 2, range[1] + length / 2);
    else return false;
    return true;
  }

  function moveMarker(chart, step) {
    const plot = chart.plot;
    const now = plot.cursor.left >= 0 && plot.cursor.idx !== null && plot.cursor.idx !== undefined ? plot.cursor.idx + step : step > 0 ? 0 : chart.bins.length - 1;
    const bin = Math.min(Math.max(now, 0), chart.bins.length - 1);
    plot.setCursor({ left: plot.valToPos(chart.bins[bin] + chart.level.step / 2, "x"), top: 10 });
    document.getElementById("spoken").textContent = `${named(chart, bin)}: ${values(chart, bin).map(([, label, value]) => `${label} ${value}`).join(", ") || "nothing"}`;
  }

  // ------------------------------------------------------------------------------------------ the page

  function setTheme(theme) {
    root.dataset.theme = theme;
    charts.forEach((chart) => chart.plot.redraw(false, true));
  }

  const dark = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  const wanted = () => chosen || (dark.matches ? "dark" : "light");
  setTheme(wanted());
  dark.addEventListener("change", () => setTheme(wanted()));
  document.getElementById("theme").addEventListener("click", () => {
    chosen = root.dataset.theme === "dark" ? "light" : "dark";
    setTheme(chosen);
  });

  function fit(chart, width) {
    const fitting = Math.floor(width || chart.place.clientWidth);
    if (!fitting || fitting === chart.width) return;
    chart.width = fitting;
    chart.plot.setSize({ width: fitting, height: chart.height });
    update(chart);
  }

  // Printing has no dark pages, and knows no window that charts could fit into.
  addEventListener("beforeprint", () => { setTheme("light"); charts.forEach((chart) => fit(chart, chart.wide ? 650 : 300)); });
  addEventListener("afterprint", () => { setTheme(wanted()); charts.forEach((chart) => fit(chart)); });

  document.getElementById("charts").hidden = false;
  for (const figure of document.querySelectorAll("[data-chart]")) {
    const chart = CHARTS[figure.dataset.chart];
    if (!report.levels.some((level) => chart.series.some((each) => (each.values(level) || []).some((value) => value !== null && (value || !chart.stacked))))) {
      figure.querySelectorAll(".buttons, .keys, details").forEach((part) => part.remove());
      const place = figure.querySelector(".plot");
      place.removeAttribute("tabindex");
      element(place, "p", "Nothing in this time.", "empty");
      continue;
    }
    chart.name = figure.dataset.chart;
    chart.place = figure.querySelector(".plot");
    chart.keys = figure.querySelector(".keys");
    chart.details = figure.querySelector("details");
    chart.wide = figure.classList.contains("wide");
    chart.width = Math.floor(chart.place.clientWidth);
    chart.height = innerWidth < 600 ? 190 : chart.wide ? 270 : 210;
    chart.tip = element(chart.place, "div", undefined, "tip");
    chart.tip.hidden = true;
    charts.push(chart);
    update(chart);
    keys(chart);
    chart.details.addEventListener("toggle", () => { if (chart.details.open) tabulate(chart); });
    chart.place.addEventListener("blur", () => { chart.tip.hidden = true; });
    chart.place.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      if (onKey(event.key, event.shiftKey)) event.preventDefault();
      else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
        event.preventDefault();
        moveMarker(chart, event.key === "ArrowLeft" ? -1 : 1);
      }
    });
    for (const button of figure.querySelectorAll("[data-unit]")) {
      button.addEventListener("click", () => {
        const bytes = button.dataset.unit === "bytes";
        const on = chart.series.map((each) => each.on);
        chart.series = locations(button.dataset.unit);
        chart.series.forEach((each, number) => { each.on = on[number]; });
        chart.show = bytes ? size : count;
        figure.querySelectorAll("[data-unit]").forEach((each) => each.setAttribute("aria-pressed", each === button));
        keys(chart);
        update(chart);
      });
    }
  }
  for (const button of document.querySelectorAll("[data-days]")) {
    button.addEventListener("click", () => show(report.until - (Number(button.dataset.days) * 86400 || report.until - report.since), report.until));
  }
  for (const button of document.querySelectorAll("[data-key]")) {
    button.addEventListener("click", () => onKey(button.dataset.key, Boolean(button.dataset.shift)));
  }
  tell();
  new ResizeObserver(() => charts.forEach((chart) => fit(chart))).observe(document.querySelector("main"));
  requestAnimationFrame(() => requestAnimationFrame(() => { root.dataset.drawn = Math.round(performance.now()); }));
})();
