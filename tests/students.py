"""Layers as students write them: four that are right, and 24 with a mistake in the backward.

Each wrong class changes one thing of its right base class. `WRONG` lists them with the tensor that is wrong.
"""

import numpy as np

LABELS = np.array([0, 2, 1, 2, 0])


# ---- a dense layer with tanh ----------------------------------------------------------------------------------------


class Tanh:
    def forward(self, X, W, b):
        self.X, self.W = X, W
        self.A = X @ W + b
        self.Y = np.tanh(self.A)
        return self.Y

    def backward(self, dY):
        dA = dY * (1 - self.Y**2)
        return dA @ self.W.T, self.X.T @ dA, dA.sum(axis=0)

    @staticmethod
    def example_inputs(rng):
        return rng.normal(size=(5, 3)), rng.normal(size=(3, 4)), rng.normal(size=4)


class TanhForgot(Tanh):
    def backward(self, dY):
        return dY @ self.W.T, self.X.T @ dY, dY.sum(axis=0)


class TanhHalfForgot(Tanh):
    def backward(self, dY):
        dA = dY * (1 - self.Y**2)
        return dA @ self.W.T, self.X.T @ dY, dA.sum(axis=0)


class TanhOfInput(Tanh):
    def backward(self, dY):
        dA = dY * (1 - self.A**2)
        return dA @ self.W.T, self.X.T @ dA, dA.sum(axis=0)


class TanhNotSquared(Tanh):
    def backward(self, dY):
        dA = dY * (1 - self.Y)
        return dA @ self.W.T, self.X.T @ dA, dA.sum(axis=0)


class TanhKeepdims(Tanh):
    def backward(self, dY):
        dX, dW, db = super().backward(dY)
        return dX, dW, db[None]


class TanhSwapped(Tanh):
    def backward(self, dY):
        dX, dW, db = super().backward(dY)
        return dW, dX, db


# ---- softmax and cross-entropy --------------------------------------------------------------------------------------


class Softmax:
    """The probabilities of each row."""

    def forward(self, Z):
        e = np.exp(Z - Z.max(axis=1, keepdims=True))
        s = e.sum(axis=1, keepdims=True)
        self.P = e / s
        return self.P

    def backward(self, dP):
        return self.P * (dP - (dP * self.P).sum(axis=1, keepdims=True))

    @staticmethod
    def example_inputs(rng):
        return (rng.normal(size=(5, 3)),)


class SoftmaxNoSum(Softmax):
    def backward(self, dP):
        return self.P * dP


class SoftmaxDiagonal(Softmax):
    def backward(self, dP):
        return dP * self.P * (1 - self.P)


class SoftmaxWrongAxis(Softmax):
    def backward(self, dP):
        return self.P * (dP - (dP * self.P).sum(axis=0, keepdims=True))


class CrossEntropy:
    """The mean of −ln softmax(Z)[label]."""

    def forward(self, Z):
        self.Z = Z
        shifted = Z - Z.max(axis=1, keepdims=True)
        lse = np.log(np.exp(shifted).sum(axis=1))
        self.P = np.exp(shifted - lse[:, None])
        picked = shifted[np.arange(len(Z)), LABELS]
        return np.mean(lse - picked)

    def backward(self, dy):
        G = self.P.copy()
        G[np.arange(len(G)), LABELS] -= 1
        return dy * G / len(G)

    @staticmethod
    def example_inputs(rng):
        return (rng.normal(size=(5, 3)),)


class CrossEntropyForgetsUpstream(CrossEntropy):
    def backward(self, dy):
        return super().backward(1.0)


class CrossEntropySum(CrossEntropy):
    def backward(self, dy):
        return super().backward(dy) * 5


class CrossEntropyNoLabel(CrossEntropy):
    def backward(self, dy):
        return dy * self.P / len(self.P)


# ---- layer normalisation --------------------------------------------------------------------------------------------


class LayerNorm:
    def forward(self, X, gain, bias):
        self.gain = gain
        mu = X.mean(axis=1, keepdims=True)
        self.centred = X - mu
        var = (self.centred**2).mean(axis=1, keepdims=True)
        self.inv = 1 / np.sqrt(var + 1e-5)
        self.Xh = self.centred * self.inv
        return gain * self.Xh + bias

    def backward(self, dY):
        dXh = dY * self.gain
        return self.dX(dXh), (dY * self.Xh).sum(axis=0), dY.sum(axis=0)

    def dX(self, dXh):
        mean = dXh.mean(axis=1, keepdims=True)
        return self.inv * (dXh - mean - self.Xh * (dXh * self.Xh).mean(axis=1, keepdims=True))

    @staticmethod
    def example_inputs(rng):
        return rng.normal(size=(4, 6)), 1 + 0.1 * rng.normal(size=6), rng.normal(size=6)


class NormNoMean(LayerNorm):
    def dX(self, dXh):
        return self.inv * (dXh - self.Xh * (dXh * self.Xh).mean(axis=1, keepdims=True))


class NormNoVariance(LayerNorm):
    def dX(self, dXh):
        return self.inv * (dXh - dXh.mean(axis=1, keepdims=True))


class NormConstants(LayerNorm):
    def dX(self, dXh):
        return self.inv * dXh


class NormVarianceTwice(LayerNorm):
    def dX(self, dXh):
        mean = dXh.mean(axis=1, keepdims=True)
        return self.inv * (dXh - mean - 2 * self.Xh * (dXh * self.Xh).mean(axis=1, keepdims=True))


class NormVarianceSign(LayerNorm):
    def dX(self, dXh):
        mean = dXh.mean(axis=1, keepdims=True)
        return self.inv * (dXh - mean + self.Xh * (dXh * self.Xh).mean(axis=1, keepdims=True))


class NormNoGain(LayerNorm):
    def backward(self, dY):
        return self.dX(dY), (dY * self.Xh).sum(axis=0), dY.sum(axis=0)


class NormGainOfCentred(LayerNorm):
    def backward(self, dY):
        return self.dX(dY * self.gain), (dY * self.centred).sum(axis=0), dY.sum(axis=0)


# ---- a GRU's cell ---------------------------------------------------------------------------------------------------


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


class GRU:
    def forward(self, x, h, Wz, Wr, Wc):
        self.h, self.Wz, self.Wr, self.Wc = h, Wz, Wr, Wc
        self.xh = np.concatenate([x, h], axis=1)
        self.z = sigmoid(self.xh @ Wz)
        self.r = sigmoid(self.xh @ Wr)
        rh = self.r * h
        self.xrh = np.concatenate([x, rh], axis=1)
        self.c = np.tanh(self.xrh @ Wc)
        return (1 - self.z) * h + self.z * self.c

    def backward(self, d):
        n = self.xh.shape[1] - self.h.shape[1]
        dz = self.dz(d) * self.z * (1 - self.z)
        dc = d * self.z * (1 - self.c**2)
        dxrh = dc @ self.Wc.T
        dr = dxrh[:, n:] * self.h * self.dsigmoid(self.r)
        dxh = dz @ self.Wz.T + dr @ self.Wr.T
        dh = d * (1 - self.z) + self.through_r(dxrh[:, n:]) + dxh[:, n:]
        return dxh[:, :n] + dxrh[:, :n], dh, self.xh.T @ dz, self.xh.T @ dr, self.xrh.T @ dc

    def dz(self, d):
        return d * (self.c - self.h)

    def dsigmoid(self, s):
        return s * (1 - s)

    def through_r(self, d):
        return d * self.r

    @staticmethod
    def example_inputs(rng):
        x, h = rng.normal(size=(4, 3)), rng.normal(size=(4, 2))
        return x, h, rng.normal(size=(5, 2)), rng.normal(size=(5, 2)), rng.normal(size=(5, 2))


class GRUNoOldState(GRU):
    def dz(self, d):
        return d * self.c


class GRUNoSigmoid(GRU):
    def dsigmoid(self, s):
        return np.ones_like(s)


class GRUNoReset(GRU):
    def through_r(self, d):
        return 0 * d


class GRUResetForgotten(GRU):
    def through_r(self, d):
        return d


class GRUSwapped(GRU):
    def backward(self, d):
        dx, dh, dWz, dWr, dWc = super().backward(d)
        return dx, dh, dWr, dWz, dWc


RIGHT = [Tanh, Softmax, CrossEntropy, LayerNorm, GRU]
WRONG = [
    cls for base in RIGHT for cls in base.__subclasses__()
]  # fmt: skip
