// 4 x 4 matrices by columns, as WebGL takes them, and vectors of three numbers.

function multiply(a, b) {
  const product = new Float32Array(16);
  for (let column = 0; column < 4; column++) {
    for (let row = 0; row < 4; row++) {
      for (let k = 0; k < 4; k++) product[4 * column + row] += a[4 * k + row] * b[4 * column + k];
    }
  }
  return product;
}

function perspective(fieldOfView, aspect, near, far) {
  const f = 1 / Math.tan(fieldOfView / 2);
  const matrix = new Float32Array(16);
  matrix[0] = f / aspect;
  matrix[5] = f;
  matrix[10] = (near + far) / (near - far);
  matrix[11] = -1;
  matrix[14] = (2 * near * far) / (near - far);
  return matrix;
}

// Takes points of the world to an eye that looks along `forward`; `right` and `up` are its other axes.
function viewFrom(eye, right, up, forward) {
  const rows = [right, up, forward.map((value) => -value)];
  const matrix = new Float32Array(16);
  rows.forEach((axis, row) => {
    for (let column = 0; column < 3; column++) matrix[4 * column + row] = axis[column];
    matrix[12 + row] = -dot(axis, eye);
  });
  matrix[15] = 1;
  return matrix;
}

function dot(a, b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

function cross(a, b) {
  return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
}

// a + scale * b
function along(a, scale, b) {
  return [a[0] + scale * b[0], a[1] + scale * b[1], a[2] + scale * b[2]];
}
