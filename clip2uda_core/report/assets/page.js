// Starts everything: images to compare, frames to choose from, buttons to copy with, the 3D view and the curves.

function compare(figure) {
  const box = figure.querySelector(".compare");
  const slider = box.querySelector("input");
  if (!slider) return;
  box.classList.add("sliding");
  const cut = (percent) => {
    slider.value = percent;
    box.style.setProperty("--cut", `${slider.value}%`);
  };
  const follow = (event) => {
    const place = box.getBoundingClientRect();
    cut((100 * (event.clientX - place.left)) / place.width);
  };
  box.addEventListener("pointerdown", (event) => {
    box.setPointerCapture(event.pointerId);
    follow(event);
    slider.focus({ preventScroll: true });
    event.preventDefault();
  });
  box.addEventListener("pointermove", (event) => event.buttons && follow(event));
  slider.addEventListener("input", () => cut(slider.value));
  cut(50);
}

// Shows one figure at a time, with small pictures below to choose the others.
function chooseAmong(list) {
  const figures = [...list.children];
  if (figures.length < 2) return;
  const strip = document.createElement("div");
  strip.className = "strip";
  strip.setAttribute("role", "group");
  strip.setAttribute("aria-label", "Frames");
  const show = (chosen) => {
    figures.forEach((figure, i) => figure.classList.toggle("away", i !== chosen));
    [...strip.children].forEach((button, i) => button.setAttribute("aria-pressed", String(i === chosen)));
  };
  figures.forEach((figure, i) => {
    const button = document.createElement("button");
    const picture = document.createElement("img");
    button.type = "button";
    picture.src = figure.querySelector(".after img").src;
    picture.alt = figure.querySelector("figcaption").textContent;
    button.append(picture);
    button.addEventListener("click", () => show(i));
    strip.append(button);
  });
  list.after(strip);
  show(0);
}

function copying(button) {
  const code = button.parentElement.querySelector("code");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected: press Ctrl+C";
    }
    setTimeout(() => (button.textContent = "Copy"), 2500);
  });
}

function startViewer(root, data) {
  root.hidden = false;
  try {
    new Viewer(root, data.clouds, data.ramp);
    root.parentElement.classList.add("in-3d");
  } catch (error) {
    root.hidden = true;
    const message = root.parentElement.querySelector(".no-webgl");
    message.textContent = `The 3D view needs WebGL2, which did not start: ${error.message}. Switch on hardware acceleration, or open the page in another browser. Here are the clouds from above.`;
    message.hidden = false;
  }
}

const data = JSON.parse(document.getElementById("data").textContent);
document.querySelectorAll(".overlay").forEach(compare);
document.querySelectorAll(".overlays").forEach(chooseAmong);
document.querySelectorAll(".copy").forEach(copying);
document.querySelectorAll(".chart").forEach((figure) => new LineChart(figure, data.charts[Number(figure.dataset.chart)]));
document.querySelectorAll(".viewer").forEach((root) => startViewer(root, data));
