"use strict";
// Draws the plots in the colours of the style sheet, and sorts tables.
(() => {
  const root = document.documentElement;
  const specs = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const print = matchMedia("print");
  const narrow = matchMedia("(max-width: 36rem)");
  const BUTTONS = [["toImage", "zoom2d", "pan2d", "resetScale2d"]];
  const PRINTED = 660; // pixels, the width of a plot on paper

  // Plots ------------------------------------------------------------------------------------------------

  // Plotly lies in the page packed.
  async function unpackPlotly() {
    const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (byte) => byte.charCodeAt(0));
    const script = document.createElement("script");
    script.textContent = await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
    document.head.append(script);
  }

  // A specification with colours for their names, and entries of `columns` for what takes them.
  function filled(value, columns, style) {
    if (typeof value === "string") return value.startsWith("--") ? style.getPropertyValue(value).trim() : value;
    if (Array.isArray(value)) return value.map((entry) => filled(entry, columns, style));
    if (value === null || typeof value !== "object") return value;
    if (Array.isArray(value.take)) {
      const [column, rows] = value.take;
      return columns[rows].map((row) => columns[column][row]);
    }
    return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, filled(entry, columns, style)]));
  }

  function axis(given, style) {
    const line = style.getPropertyValue("--line").trim();
    const title = given.title ? { text: given.title, standoff: 8, font: { size: narrow.matches ? 11 : 13 } } : undefined;
    return { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true, ...given, title };
  }

  function draw(number) {
    const spec = specs[number];
    const style = getComputedStyle(root);
    const printing = root.classList.contains("printing");
    const chosen = [...document.querySelectorAll(`#controls-${number} select`)].map((select) => select.selectedIndex);
    const state = spec.states[chosen.join(",")];
    const extra = state.layout;
    const colour = (name) => style.getPropertyValue(name).trim();
    const layout = {
      ...filled(spec.layout, {}, style),
      font: { family: getComputedStyle(document.body).fontFamily, size: narrow.matches ? 11 : 13, color: colour("--ink") },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 8, r: 12, t: 34, b: 8 },
      legend: { orientation: "h", x: 0, y: 1, xanchor: "left", yanchor: "bottom" },
      hoverlabel: { bgcolor: colour("--raised"), bordercolor: colour("--line"), font: { color: colour("--ink"), size: 12 } },
      xaxis: axis({ ...spec.layout.xaxis, ...extra.xaxis }, style),
      yaxis: axis({ ...spec.layout.yaxis, ...extra.yaxis }, style),
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--muted"), activecolor: colour("--accent") },
      dragmode: narrow.matches ? false : "zoom",
      autosize: !printing,
      width: printing ? PRINTED : undefined,
    };
    if (!("showlegend" in layout)) layout.showlegend = state.data.some((trace) => trace.showlegend !== false) && state.data.length > 1;
    if (!layout.showlegend) layout.margin.t = 12;
    const config = { responsive: !printing, displaylogo: false, displayModeBar: narrow.matches ? false : "hover", modeBarButtons: BUTTONS };
    return Plotly.react(`plot-${number}`, filled(state.data, spec.columns || {}, style), layout, config);
  }

  function addControls(number) {
    const place = document.getElementById(`controls-${number}`);
    specs[number].controls.forEach(({ label, options }) => {
      const wrapper = document.createElement("label");
      const select = document.createElement("select");
      options.forEach((option) => select.add(new Option(option)));
      select.addEventListener("change", () => draw(number));
      wrapper.append(label, select);
      wrapper.hidden = options.length < 2;
      place.append(wrapper);
    });
  }

  const drawAll = () => specs.forEach((_, number) => draw(number));
  const onPaper = (printing) => {
    if (root.classList.toggle("printing", printing) !== was) { was = printing; drawAll(); }
  };
  let was = false;
  const withoutPlots = (error) => {
    const note = document.createElement("p");
    note.className = "note";
    note.textContent = "This browser cannot draw the plots; every number is in the tables too.";
    document.getElementById("content").prepend(note);
    throw error;
  };
  unpackPlotly().catch(withoutPlots).then(() => {
    specs.forEach((_, number) => addControls(number));
    drawAll();
    dark.addEventListener("change", drawAll);
    narrow.addEventListener("change", drawAll);
    print.addEventListener("change", (event) => onPaper(event.matches));
    addEventListener("beforeprint", () => onPaper(true));
    addEventListener("afterprint", () => onPaper(false));
    root.classList.add("drawn");
  });

  // Tables -----------------------------------------------------------------------------------------------

  const value = (row, column) => row.cells[column].dataset.value;

  function compared(one, other, numeric) {
    return numeric ? Number(one) - Number(other) : one.localeCompare(other, "en", { numeric: true });
  }

  // Numbers and empty cells: those without a value stand last in either direction.
  function sort(table, column, direction) {
    const numeric = table.tHead.rows[0].cells[column].classList.contains("number");
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const there = rows.filter((row) => value(row, column) !== undefined);
    there.sort((a, b) => direction * compared(value(a, column), value(b, column), numeric));
    body.append(...there, ...rows.filter((row) => value(row, column) === undefined));
  }

  document.querySelectorAll("th button").forEach((button) => {
    button.addEventListener("click", () => {
      const head = button.parentElement;
      const ascending = head.getAttribute("aria-sort") !== "ascending";
      head.parentElement.querySelectorAll("th").forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      sort(head.closest("table"), head.cellIndex, ascending ? 1 : -1);
    });
  });
})();
