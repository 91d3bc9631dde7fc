"use strict";
for (const viewer of document.querySelectorAll("[data-viewer]")) {
  const key = viewer.dataset.viewer;
  const view = JSON.parse(document.getElementById(`${key}-data`).textContent);
  const slider = viewer.querySelector("input[type=range]");
  const output = viewer.querySelector("output");
  const status = viewer.querySelector("[role=status]");
  const chosen = { stop: 0, picture: 0, plane: 0, class: 0, model: 0, ...view.start };

  const setAll = (root, selector, name, value) => {
    for (const element of root.querySelectorAll(selector)) element.setAttribute(name, value);
  };
  const draw = (contours, kind, paths) =>
    contours.querySelectorAll(`path.${kind}`).forEach((path, index) => {
      const outline = chosen.class && chosen.class !== index + 1 ? "" : paths[index];
      path.setAttribute("d", outline);
      path.previousElementSibling.setAttribute("d", outline);
    });

  function showPanel(panel, one, plane, network) {
    panel.hidden = network === undefined;
    if (panel.hidden) return "";
    const contours = panel.querySelector(".contours");
    draw(contours, "reference", plane.reference);
    draw(contours, "prediction", plane.prediction[network][chosen.stop]);
    const shades = panel.querySelector(".uncertainty");
    if (shades) {
      const picture = shades.querySelector("image");
      picture.setAttribute("width", plane.width);
      picture.setAttribute("height", plane.height);
      picture.setAttribute("href", plane.uncertainty.length ? plane.uncertainty[network][chosen.stop] : "");
      shades.querySelector("path").setAttribute("d", plane.reference.join(""));
    }
    const dice = one.dice[network][chosen.stop];
    panel.querySelector(".training").textContent = view.trainings[network];
    panel.querySelector(".dice").textContent = dice ? `Dice ${dice}` : "";
    return dice ? `${view.networks[network]}: Dice ${dice}` : "";
  }

  function showStrip(figure) {
    const one = view.cases[Number(figure.dataset.case)];
    for (const mark of figure.querySelectorAll("g[id*='-stop']")) {
      const stop = Number(mark.id.match(/-stop(\d+)-/)[1]);
      mark.classList.toggle("pale", stop !== 0 && stop !== chosen.stop);
    }
    const values = one.values.map((of_network) => of_network[chosen.stop]);
    figure.querySelectorAll(".value").forEach((element, network) => { element.textContent = values[network]; });
    return `${one.place} case: ${values.map((value, network) => `${view.networks[network]} ${value}`).join(", ")}`;
  }

  function showCase(figure) {
    const number = Number(figure.dataset.case);
    const one = view.cases[number];
    const plane = one.planes[view.planes[chosen.plane]];
    const [across, down] = plane.stretch;
    setAll(figure, ".pictures svg", "viewBox", `0 0 ${plane.width * across} ${plane.height * down}`);
    setAll(figure, ".pictures svg > g", "transform", `scale(${across} ${down})`);
    setAll(figure, ".contours use", "href", `#${key}-${number}-${chosen.plane}-${chosen.picture}`);
    const group = view.groups[chosen.model];
    const shown = Array.from(figure.querySelectorAll(".panel"), (panel, index) => showPanel(panel, one, plane, group[index]));
    const known = shown.filter(Boolean);
    return known.length ? `${one.place} case: ${known.join(", ")}` : "";
  }

  function update() {
    const stop = view.stops[chosen.stop];
    slider.setAttribute("aria-valuetext", stop);
    output.textContent = stop;
    const show = view.planes ? showCase : showStrip;
    const told = Array.from(viewer.querySelectorAll("[data-case]"), show).filter(Boolean);
    const at = view.models ? `${view.models[chosen.model]}, ${stop}` : stop;
    status.textContent = `${at}. ${told.join("; ")}`;
  }

  viewer.addEventListener("input", (event) => {
    const control = event.target.dataset.control;
    if (control) {
      chosen[control] = Number(event.target.value);
      update();
    }
  });
  if (!view.planes) update();
}
