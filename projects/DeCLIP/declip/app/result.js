// The result of the page: colours labels, says what is under the pointer, and where somebody clicked.
let labels = null; // of the picture that is shown: one number a pixel
let opacity = null; // as the reader left it, over all results
const figure = () => element.querySelector("figure.segmentation");

function draw(chosen = null) {
  const canvas = element.querySelector("canvas");
  const colors = JSON.parse(figure().dataset.colors);
  const { width, height } = canvas;
  const pixels = new ImageData(width, height);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      const label = labels[at];
      const border = (x && labels[at - 1] !== label) || (y && labels[at - width] !== label);
      const [red, green, blue] = border ? [255, 255, 255] : colors[label];
      pixels.data.set([red, green, blue, chosen === null || chosen === label ? 255 : 40], 4 * at);
    }
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

function show() {
  labels = null;
  if (!figure()) return;
  const slider = element.querySelector("input[type=range]");
  if (opacity !== null) slider.value = opacity;
  element.querySelector("canvas").style.opacity = slider.value / 100;
  const picture = new Image();
  picture.onload = () => {
    const hidden = document.createElement("canvas");
    hidden.width = picture.width;
    hidden.height = picture.height;
    const context = hidden.getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0);
    labels = context.getImageData(0, 0, picture.width, picture.height).data.filter((_, at) => at % 4 === 0);
    draw();
    figure().dataset.drawn = "true";
  };
  picture.src = figure().dataset.labels;
}

function place(event) {
  const box = event.target.getBoundingClientRect();
  const share = (value) => Math.min(Math.max(value, 0), 1); // a border of a fraction of a pixel lies outside
  return { x: share((event.clientX - box.left) / box.width), y: share((event.clientY - box.top) / box.height) };
}

element.addEventListener("input", (event) => {
  if (!event.target.matches("input[type=range]")) return;
  opacity = event.target.value;
  element.querySelector("canvas").style.opacity = opacity / 100;
});

element.addEventListener("mousemove", (event) => {
  const tip = element.querySelector(".tip");
  if (!tip) return;
  tip.hidden = !(labels && event.target.matches("canvas"));
  if (tip.hidden) return;
  const { width, height } = event.target;
  const { x, y } = place(event);
  const at = Math.min(Math.floor(y * height), height - 1) * width + Math.min(Math.floor(x * width), width - 1);
  tip.textContent = JSON.parse(figure().dataset.names)[labels[at]];
  tip.style.left = `${100 * x}%`;
  tip.style.top = `${100 * y}%`;
});

const point = (event) => {
  const row = event.target.closest("tr[data-class]");
  if (row && labels) draw(Number(row.dataset.class));
};
const leave = (event) => {
  if (event.target.closest("tr[data-class]") && labels) draw();
};
element.addEventListener("mouseover", point);
element.addEventListener("focusin", point);
element.addEventListener("mouseout", leave);
element.addEventListener("focusout", leave);
element.addEventListener("mouseleave", () => {
  const tip = element.querySelector(".tip");
  if (tip) tip.hidden = true;
});

element.addEventListener("click", (event) => {
  if (event.target.matches("canvas")) trigger("click", place(event));
});

watch("value", show);
show();
