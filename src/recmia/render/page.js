"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const font = getComputedStyle(document.body).fontFamily;
  const text = { labelColor: "var(--soft)", titleColor: "var(--soft)", labelFont: font, titleFont: font };
  const config = {
    background: null,
    aria: false,
    font,
    view: { stroke: null },
    axis: {
      ...text, labelFontSize: 12, titleFontSize: 12, titleFontWeight: 400, titlePadding: 10, labelPadding: 6,
      domainColor: "var(--line)", tickColor: "var(--line)", gridColor: "var(--grid)", tickSize: 4,
    },
    legend: { ...text, labelFontSize: 12, symbolSize: 90, labelColor: "var(--ink)" },
  };
  const options = {
    mode: "vega-lite", renderer: "svg", actions: false, defaultStyle: false,
    // Expressions are interpreted, so that the page's policy can forbid code made of text.
    ast: true,
    tooltip: { disableDefaultStyle: true },
  };
  const views = new Map();

  function state(part) {
    const form = document.querySelector(`form[data-part="${part}"]`);
    const given = form ? new FormData(form) : new FormData();
    const all = form && form.querySelector("[name=shown]");
    return { view: given.get("view") ?? "", pick: given.get("pick") ?? "", shown: all ? given.getAll("shown") : null };
  }

  async function draw(element) {
    const figure = figures[element.id];
    const { view, pick, shown } = state(element.dataset.part);
    const spec = figure.specs[view] ?? figure.specs[""];
    const data = figure.data[""] ?? (pick ? figure.data[pick] : Object.values(figure.data)[0]);
    const turn = (views.get(element)?.turn ?? 0) + 1;
    views.set(element, { ...views.get(element), turn });
    if (!data) {
      // What asks cannot be run where the system answers no stranger.
      views.get(element).result?.finalize();
      views.set(element, { turn });
      element.textContent = `${pick} was not run here.`;
      element.dataset.drawn = `${view}/${pick}`;
      return;
    }
    const whole = { ...spec, config, datasets: { ...spec.datasets, ...data } };
    const result = await vegaEmbed(element, whole, options);
    // A later request replaces this drawing.
    if (views.get(element).turn !== turn) return result.finalize();
    views.get(element).result?.finalize();
    views.set(element, { turn, result });
    // The element around it has the words; its parts have none.
    element.querySelector("svg").setAttribute("aria-hidden", "true");
    if (shown) await result.view.signal("shown", shown).runAsync();
    element.dataset.drawn = `${view}/${pick}`;
  }

  async function draws(elements) {
    for (const element of elements) {
      try {
        await draw(element);
      } catch (error) {
        element.textContent = "This chart could not be drawn; the table holds the same figures.";
        console.error(error);
      }
    }
  }

  for (const form of document.querySelectorAll("form.controls")) {
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("change", (event) => {
      const charts = [...document.querySelectorAll(`.chart[data-part="${form.dataset.part}"]`)];
      if (event.target.name !== "shown") return draws(charts);
      const { shown } = state(form.dataset.part);
      for (const chart of charts) views.get(chart)?.result?.view.signal("shown", shown).runAsync();
    });
  }

  const theme = document.getElementById("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  const label = () => { theme.textContent = isDark() ? "Light colours" : "Dark colours"; };
  theme.hidden = false;
  theme.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    label();
  });
  dark.addEventListener("change", label);
  label();

  // Without a clipboard, such as in an old browser, the text is selected, to be copied by hand.
  for (const button of document.querySelectorAll(".copy")) {
    const text = button.nextElementSibling;
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(text);
        button.textContent = "Selected; copy it";
      }
    });
  }

  // Folded tables are printed, too.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const one of folded) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of folded) one.open = false; });

  draws(document.querySelectorAll(".chart"));
})();
