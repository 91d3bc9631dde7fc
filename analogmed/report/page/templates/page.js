"use strict";
for (const viewer of document.querySelectorAll("[data-viewer]")) {
  const key = viewer.dataset.viewer;
  const view = JSON.parse(document.getElementById(`${key}-data`).textContent);
  const slider = viewer.querySelector("input[type=range]");
  const output = viewer.querySelector("output");
  const status = viewer.querySelector("[role=status]");
  const chosen = { network: view.start.network, stop: view.start.stop, picture: view.start.picture, plane: 0, class: 0, model: view.place[0], training: view.place[1] };

  const outline = (paths) => (chosen.class ? paths[chosen.class - 1] : paths.join(""));
  const setAll = (root, selector, name, value) => {
    for (const element of root.querySelectorAll(selector)) element.setAttribute(name, value);
  };

  function show(figure) {
    const number = Number(figure.dataset.case);
    const one = view.cases[number];
    const plane = one.planes[view.planes[chosen.plane]];
    const [across, down] = plane.stretch;
    const contours = figure.querySelector(".contours");
    setAll(figure, ".pictures svg", "viewBox", `0 0 ${plane.width * across} ${plane.height * down}`);
    setAll(figure, ".pictures svg > g", "transform", `scale(${across} ${down})`);
    setAll(contours, "use", "href", `#${key}-${number}-${chosen.plane}-${chosen.picture}`);
    const [back, reference, front, prediction] = contours.querySelectorAll("path");
    const expected = outline(plane.reference);
    const found = outline(plane.prediction[chosen.network][chosen.stop]);
    for (const path of [back, reference]) path.setAttribute("d", expected);
    for (const path of [front, prediction]) path.setAttribute("d", found);
    const shades = figure.querySelector(".uncertainty");
    if (shades) {
      const picture = shades.querySelector("image");
      picture.setAttribute("width", plane.width);
      picture.setAttribute("height", plane.height);
      const of = plane.uncertainty.length ? plane.uncertainty[chosen.network][chosen.stop] : "";
      picture.setAttribute("href", of);
      shades.querySelector("path").setAttribute("d", expected);
    }
    const dice = one.dice[chosen.network][chosen.stop];
    figure.querySelector(".dice").textContent = dice ? `Dice ${dice}` : "";
    return dice ? `${one.place} case: Dice ${dice}` : "";
  }

  function update() {
    const stop = view.stops[chosen.stop];
    slider.setAttribute("aria-valuetext", stop);
    output.textContent = stop;
    const told = Array.from(viewer.querySelectorAll("[data-case]"), show).filter(Boolean);
    status.textContent = `${view.networks[chosen.network]}, ${stop}. ${told.join("; ")}`;
  }

  viewer.addEventListener("input", (event) => {
    const control = event.target.dataset.control;
    if (control) {
      chosen[control] = Number(event.target.value);
      if (control === "model" || control === "training") chosen.network = view.grid[chosen.model][chosen.training];
      update();
    }
  });
}
