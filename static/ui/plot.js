// A line plot over time with uPlot; colours follow the theme.
import { html, useEffect, useRef } from '../lib/html.js';
import { colour, theme } from '../lib/theme.js';
import uPlot from '../vendor/uplot.js';

/** `data` = `[seconds[], values[], …]`, `series` = `[{label, colour}]`. */
export function Plot({ data, series, label }) {
  const box = useRef(null);
  const plot = useRef(null);
  const mode = theme.value;
  useEffect(() => {
    // Effects run after the frame, and observers once more while a page goes: by then the ref may be gone.
    const host = box.current;
    if (!host) return undefined;
    const axis = { stroke: colour('muted'), grid: { stroke: colour('line'), width: 1 }, ticks: { stroke: colour('line'), width: 1 } };
    const size = () => ({ width: Math.max(200, host.clientWidth), height: 190 });
    plot.current = new uPlot({
      ...size(),
      scales: { y: { range: (_u, _min, max) => [0, Math.max(10, max * 1.15)] } },
      axes: [axis, { ...axis, size: 60 }],
      series: [{}, ...series.map((one) => ({ label: one.label, stroke: colour(one.colour), width: 2, points: { show: false }, value: (_u, value) => (value === null ? '–' : Math.round(value).toLocaleString()) }))],
    }, data, host);
    const observer = new ResizeObserver(() => plot.current?.setSize(size()));
    observer.observe(host);
    return () => {
      observer.disconnect();
      plot.current.destroy();
      plot.current = null;
    };
  }, [mode]);
  useEffect(() => plot.current?.setData(data), [data]);
  return html`<div class="plot" ref=${box} role="img" aria-label=${label}></div>`;
}
