// Draws the charts of the page: each is an element of #data, drawn into #c-<id>.
"use strict";
(() => {
  const charts = JSON.parse(document.getElementById("data").textContent) || [];
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  const height = 240;

  // Dashed horizontal level, and a line with a label where each iteration begins.
  const guides = (chart) => (u) => {
    const {ctx, bbox} = u;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = color("quiet");
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
    if (chart.level !== null) {
      const y = u.valToPos(chart.level, "y", true);
      if (y >= bbox.top && y <= bbox.top + bbox.height) line(ctx, bbox.left, y, bbox.left + bbox.width, y);
    }
    ctx.font = `${11 * devicePixelRatio}px sans-serif`;
    ctx.textAlign = "left";
    ctx.textBaseline = "top";
    (chart.marks || []).forEach((at, t) => {
      const x = u.valToPos(at, "x", true);
      if (t > 0) line(ctx, x, bbox.top, x, bbox.top + bbox.height);
      ctx.fillText("t = " + t, x + 4 * devicePixelRatio, bbox.top + 2 * devicePixelRatio);
    });
    ctx.restore();
  };

  // Intervals of the series that have them.
  const intervals = (chart) => (u) => {
    const {ctx} = u;
    chart.series.forEach((s, i) => {
      if (!s.low || !u.series[i + 1].show) return;
      ctx.save();
      ctx.strokeStyle = color("s" + (i % 6));
      ctx.lineWidth = 1.5 * devicePixelRatio;
      s.values.forEach((v, k) => {
        if (v === null || s.low[k] === null) return;
        const x = u.valToPos(k + offset(chart, i), "x", true), cap = 4 * devicePixelRatio;
        const [from, to] = interval(s, k), low = u.valToPos(from, "y", true), high = u.valToPos(to, "y", true);
        line(ctx, x, low, x, high);
        line(ctx, x - cap, low, x + cap, low);
        line(ctx, x - cap, high, x + cap, high);
        ctx.beginPath();
        ctx.fillStyle = color("s" + (i % 6));
        ctx.arc(x, u.valToPos(v, "y", true), 4 * devicePixelRatio, 0, 2 * Math.PI);
        ctx.fill();
      });
      ctx.restore();
    });
  };

  // The interval of a value.
  const interval = (s, k) => s.low ? [s.low[k], s.high[k]] : [s.values[k], s.values[k]];

  // Series of one category stand side by side.
  const offset = (chart, i) => (i - (chart.series.length - 1) / 2) * 0.14;

  function line(ctx, x0, y0, x1, y1) {
    ctx.beginPath();
    ctx.moveTo(x0, y0);
    ctx.lineTo(x1, y1);
    ctx.stroke();
  }

  // The y range holds the intervals and the level, with some air.
  function range(chart) {
    const all = chart.level === null ? [] : [chart.level];
    for (const s of chart.series) {
      s.values.forEach((v, k) => {
        if (v !== null) all.push(...interval(s, k));
      });
    }
    const low = Math.min(...all), high = Math.max(...all), air = (high - low || Math.abs(high) || 1) * 0.08;
    return [low - air, high + air];
  }

  const drawn = [];

  function draw(chart) {
    const where = document.getElementById("c-" + chart.id);
    const points = chart.series.some((s) => s.low);
    const x = points ? chart.x.map((_, i) => i) : chart.x;
    const axis = {stroke: color("quiet"), grid: {stroke: color("line"), width: 1}, ticks: {stroke: color("line"), width: 1}};
    const whole = [1, 2, 5].flatMap((n) => [n, n * 10, n * 100, n * 1e3, n * 1e4, n * 1e5]).sort((a, b) => a - b); // no half steps
    const digits = (v) => v === null || v === undefined ? "–" : Math.abs(v) >= 100 ? v.toFixed(0) : v.toFixed(3);
    const options = {
      width: where.clientWidth, height,
      cursor: {points: {show: !points}},
      scales: {
        x: {time: false, range: points ? () => [-0.6, x.length - 0.4] : undefined},
        y: {range: () => range(chart)},
      },
      axes: [
        {...axis, ...(points ? {splits: () => x, values: (u, at) => at.map((i) => chart.x[i])} : {label: chart.xLabel, labelSize: 22, size: 34, incrs: whole})},
        {...axis, size: 62},
      ],
      series: [
        {label: points ? "weights" : chart.xLabel, value: (u, v) => v === null ? "–" : points ? chart.x[v] : +v.toFixed(2)},
        ...chart.series.map((s, i) => ({
          label: s.name, stroke: color("s" + (i % 6)), width: s.low ? 0 : s.faint ? 1 : 2, alpha: s.faint ? 0.45 : 1,
          points: {show: s.low ? false : undefined}, value: (u, v, k, at) => digits(v) + (s.low && at !== null && v !== null && s.low[at] < s.high[at] ? ` (${digits(s.low[at])} to ${digits(s.high[at])})` : ""),
        })),
      ],
      hooks: {draw: [guides(chart), intervals(chart)]},
    };
    return new uPlot(options, [x, ...chart.series.map((s) => s.values)], where);
  }

  function all() {
    drawn.splice(0).forEach((u) => u.destroy());
    charts.forEach((chart) => drawn.push(draw(chart)));
  }

  all();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
  let waiting = 0;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => drawn.forEach((u, i) => u.setSize({width: document.getElementById("c-" + charts[i].id).clientWidth, height})), 100);
  });
})();
